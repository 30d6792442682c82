import type { IncomingMessage, ServerResponse } from "node:http";
import type { Client } from "@connectrpc/connect";
import type { GetServerInfoResponse } from "../../../gen/sessionbroker/v1/admin_pb.js";
import type { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";
import type { ApiError } from "./errors.js";
import type { Fetching } from "./fetch-parts.js";
import type { HeaderReader } from "./headers.js";
import type { OriginRow } from "./origin.js";
import type { Timers } from "./time.js";

/** One request, and what is needed to answer it. */
export interface Call {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly header: HeaderReader;
  readonly broker: Client<typeof SessionBroker>;
  readonly brokerAddress: string;
  /** With the client's own token: the adapter has no authority of its own. */
  readonly callHeaders: Readonly<Record<string, string>>;
  readonly limits: AdapterLimits;
  readonly defaults: AdapterDefaults;
  /** Where requests name their conversations. */
  readonly origins: readonly OriginRow[];
  /** Which URLs are fetched for clients; absent: none. */
  readonly fetching: Fetching | undefined;
  readonly timers: Timers;
  readonly newId: () => string;
  serverInfo(): Promise<GetServerInfoResponse>;
  /** May be a minute old, for what is then asked of the broker itself. */
  recentServerInfo(): Promise<GetServerInfoResponse>;
  sendJson(value: unknown): void;
  /** Logs a failure that is not the client's. */
  logFailure(error: ApiError): void;
}

export interface AdapterLimits {
  readonly bodyBytes: number;
  /** Silence in a stream after which a comment is sent. */
  readonly keepAliveMs: number;
  /** How often in a row a broken connection to the broker is taken up again. */
  readonly reattachAttempts: number;
  /** Before the first attempt; doubles with each. */
  readonly reattachDelayMs: number;
}

export interface AdapterDefaults {
  /** What the model names `default` and `openclaw` stand for. Default: the broker's first provider. */
  readonly provider?: string;
  /** The OpenClaw agent of a request that names none. */
  readonly agent: string;
}
