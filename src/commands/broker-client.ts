/** How commands ask a running broker. */
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import {
  type Client,
  Code,
  ConnectError,
  createClient,
  type Interceptor,
  type Transport,
} from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { ConfigError, type Settings } from "../config/config.js";
import { adminTokenFile } from "../config/tokens.js";
import { CommandError } from "./command-error.js";
import { describeAddress } from "./process.js";

export interface BrokerAccess {
  /** `http://host:port`, or `unix:<path>`. */
  readonly broker: string;
  readonly token: string;
  /** Where the token is from, for messages. */
  readonly tokenSource: string;
}

/** Over HTTP/1.1, which streams answers but no requests. */
export function transportTo(broker: string, interceptors: Interceptor[] = []): Transport {
  const socketPath = socketOf(broker);
  return createConnectTransport({
    httpVersion: "1.1",
    interceptors,
    baseUrl: socketPath === undefined ? broker : "http://localhost",
    nodeOptions: { ...(socketPath === undefined ? {} : { socketPath }) },
  });
}

/**
 * The broker that is named, or else the one whose socket lies there, or else the
 * one on the address to listen on; with the token of the environment, or else
 * that of the data directory.
 *
 * @throws ConfigError, CommandError
 */
export function brokerAccess(
  settings: Pick<Settings, "data" | "listen" | "socket" | "tls">,
  named: string | undefined,
  token: string | undefined,
): BrokerAccess {
  const local = existsSync(settings.socket)
    ? `unix:${settings.socket}`
    : describeAddress(settings.listen, settings.tls !== undefined);
  const broker = named ?? local;
  if (socketOf(broker) === undefined && !/^https?:\/\/[^/]/.test(broker)) {
    throw new ConfigError(`broker: ${JSON.stringify(broker)} is neither http://host:port nor unix:PATH`);
  }
  return token
    ? { broker, token, tokenSource: "SESSION_BROKER_TOKEN" }
    : { broker, ...readToken(settings.data) };
}

/** Over HTTP/2, which streams both ways, with the token on every call. */
export function brokerClient({ broker, token }: BrokerAccess): Client<typeof SessionBroker> {
  const socketPath = socketOf(broker);
  const transport = createConnectTransport({
    httpVersion: "2",
    baseUrl: socketPath === undefined ? broker : "http://localhost",
    nodeOptions: socketPath === undefined ? {} : { createConnection: () => connect(socketPath) },
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ],
  });
  return createClient(SessionBroker, transport);
}

/** Asks once; what goes wrong is told in words for who typed the command. @throws CommandError */
export async function askBroker<T>(
  access: BrokerAccess,
  call: (client: Client<typeof SessionBroker>) => Promise<T>,
): Promise<T> {
  try {
    return await call(brokerClient(access));
  } catch (error) {
    throw explainCall(error, access);
  }
}

const mostPageRows = 1000;

/** Rows of a listing, page after page. @param limit of rows; 0: all */
export async function pagesOf<T>(
  limit: number,
  ask: (
    pageSize: number,
    pageToken: string,
  ) => Promise<{ readonly rows: T[]; readonly nextPageToken: string }>,
): Promise<{ readonly rows: readonly T[]; readonly more: boolean }> {
  const rows: T[] = [];
  let pageToken = "";
  do {
    const pageSize = limit === 0 ? mostPageRows : Math.min(limit - rows.length, mostPageRows);
    const page = await ask(pageSize, pageToken);
    rows.push(...page.rows);
    pageToken = page.nextPageToken;
  } while (pageToken !== "" && (limit === 0 || rows.length < limit));
  return { rows, more: pageToken !== "" };
}

/** No broker answers, or it went away. */
export class BrokerUnreachable extends CommandError {}

/** What a failed call means to who typed the command. Other errors stay as they are. */
export function explainCall(error: unknown, { broker, tokenSource }: BrokerAccess): unknown {
  if (!(error instanceof ConnectError)) return error;
  const { rawMessage: reason } = error;
  if (isLost(error)) {
    return new BrokerUnreachable(`the broker at ${broker} cannot be reached: ${reason}`);
  }
  switch (error.code) {
    case Code.Unauthenticated:
      return new CommandError(`the broker at ${broker} does not know the token of ${tokenSource}: ${reason}`);
    case Code.PermissionDenied:
      return new CommandError(`the token of ${tokenSource} does not allow it: ${reason}`);
    default: {
      const what = error.findDetails(ErrorInfoSchema)[0]?.reason ?? "";
      const hint = advice[what];
      return new CommandError(
        `the broker at ${broker} could not do it: ${reason}${hint === undefined ? "" : `; ${hint}`}`,
      );
    }
  }
}

/** What to do, by the reason of an error. */
const advice: Readonly<Record<string, string>> = {
  SESSION_BUSY: "wait for its turns, end them with `session-broker turns cancel`, or use --force",
  SESSION_NOT_FOUND: "`session-broker sessions list` shows those that there are",
  TURN_NOT_FOUND: "`session-broker turns list` shows those that there are",
  AMBIGUOUS_ID: "that is done with --scope, --external-id and --provider",
  STALE_GENERATION: "look at it again with `session-broker sessions show`",
  EVENTS_EXPIRED: "`session-broker turns show` still tells how it ended",
};

function isLost(error: ConnectError): boolean {
  const { code, cause } = error;
  // A session that is busy is told with the code of a broken stream, and with a reason.
  if (error.findDetails(ErrorInfoSchema).length > 0) return code === Code.Unavailable;
  if ([Code.Unavailable, Code.Aborted, Code.Canceled].includes(code)) return true;
  return cause instanceof Error && "syscall" in cause;
}

function socketOf(broker: string): string | undefined {
  return /^unix:(.+)$/.exec(broker)?.[1];
}

function readToken(data: string): Pick<BrokerAccess, "token" | "tokenSource"> {
  const file = adminTokenFile(data);
  try {
    return { token: readFileSync(file, "utf8").trim(), tokenSource: file };
  } catch (error) {
    throw new CommandError(
      `the admin token cannot be read: ${(error as Error).message}; name the broker's data directory with --data, or set SESSION_BROKER_TOKEN`,
    );
  }
}
