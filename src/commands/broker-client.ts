/** How commands ask a running broker. */
import { existsSync, readFileSync } from "node:fs";
import { connect } from "node:net";
import { type Client, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
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
export function transportTo(broker: string): Transport {
  const socketPath = socketOf(broker);
  return createConnectTransport({
    httpVersion: "1.1",
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
  settings: Pick<Settings, "data" | "listen" | "socket">,
  named: string | undefined,
  token: string | undefined,
): BrokerAccess {
  const local = existsSync(settings.socket) ? `unix:${settings.socket}` : describeAddress(settings.listen);
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
    default:
      return new CommandError(`the broker at ${broker} could not do it: ${reason}`);
  }
}

function isLost({ code, cause }: ConnectError): boolean {
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
