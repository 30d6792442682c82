/** The same service twice, behind the interceptors of the broker: with the fast path, and without. */
import { setMaxListeners } from "node:events";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError, type ConnectRouter, type HandlerContext } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { Role } from "../../gen/sessionbroker/v1/options_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { sha256 } from "../../src/config/tokens.js";
import { BrokerError } from "../../src/errors.js";
import { Credentials } from "../../src/rpc/credentials.js";
import { createHealth } from "../../src/rpc/health.js";
import { withHttpMethods } from "../../src/rpc/http-methods.js";
import { serviceInterceptors } from "../../src/rpc/service.js";
import { withFastPath } from "../../src/server/fast-path/index.js";
import { withPlainGrpcMessages } from "../../src/server/grpc-compat.js";
import { type Listening, listen } from "../../src/server/one-port.js";
import { withRefusedBodies } from "../../src/server/unread-body.js";

export const tokens = { admin: "admin-token", powerless: "powerless-token", nobody: "unknown-token" };
export const readMaxBytes = 1000;
const longMs = 500;

export interface ScriptedServer extends Listening {
  /** The signals of the calls that `wait` has begun, in their order. */
  readonly waiting: AbortSignal[];
  /** How many messages `endless` has made. */
  readonly made: { count: number };
  readonly defects: unknown[];
  readonly credentials: Credentials;
  readonly shutdown: AbortController;
}

const known = [
  { name: "admin", role: Role.ADMIN, tokenSha256: sha256(tokens.admin), scopes: [] },
  { name: "powerless", role: Role.UNSPECIFIED, tokenSha256: sha256(tokens.powerless), scopes: [] },
];

export async function startScripted(fastPath: boolean): Promise<ScriptedServer> {
  const waiting: AbortSignal[] = [];
  const made = { count: 0 };
  const defects: unknown[] = [];
  const credentials = new Credentials(known);
  const shutdown = new AbortController();
  setMaxListeners(0, shutdown.signal);
  const health = createHealth([SessionBroker.typeName]);
  const options = {
    routes(router: ConnectRouter) {
      health.routes(router);
      router.service(SessionBroker, {
        getTurn: async ({ turnId }, context) => {
          setHeaders(turnId, context);
          await perform(turnId, context, waiting);
          return { turn: { turnId } };
        },
        async *attach({ turnId }, context) {
          const [name, count = "0"] = turnId.split(" ");
          // Later they would come too late.
          setHeaders(turnId, context);
          for (let sequence = 1; sequence <= Number(count); sequence++) yield textOf(sequence, turnId);
          for (let sequence = 1; name === "endless"; sequence++) {
            made.count = sequence;
            yield textOf(sequence, "x".repeat(1000));
            await new Promise((resolve) => setImmediate(resolve));
          }
          await perform(turnId, context, waiting);
        },
      });
    },
    interceptors: serviceInterceptors(
      () => credentials,
      () => {},
    ),
    jsonOptions: { ignoreUnknownFields: false },
    readMaxBytes,
    shutdownSignal: shutdown.signal,
  };
  const complete = withRefusedBodies(
    withHttpMethods([SessionBroker, Health], withPlainGrpcMessages(connectNodeAdapter(options))),
  );
  const served = fastPath
    ? withFastPath(options, complete, (error) => defects.push(error))
    : { handler: complete };
  const listening = await listen({ host: "127.0.0.1", port: 0, ...served });
  return { ...listening, waiting, made, defects, credentials, shutdown };
}

export function revokeAll({ credentials }: ScriptedServer): void {
  credentials.replace([]);
}

function textOf(sequence: number, text: string) {
  return { event: { sequence, event: { case: "textDelta" as const, value: { text } } } };
}

function setHeaders(turnId: string, { responseHeader, responseTrailer }: HandlerContext): void {
  if (!turnId.startsWith("headers")) return;
  responseHeader.set("x-one", "1");
  responseHeader.append("set-cookie", "a=1");
  responseHeader.append("set-cookie", "b=2");
  responseTrailer.append("x-two", "2");
  responseTrailer.append("x-two", "3");
}

/** The first word of an id says what its call does. */
async function perform(turnId: string, context: HandlerContext, waiting: AbortSignal[]): Promise<void> {
  switch (turnId.split(" ")[0]) {
    case "fail":
      throw new BrokerError("TURN_NOT_FOUND", `no turn ${turnId}: 100 % \u00e9\u4e2d\n`);
    case "details": {
      context.responseTrailer.set("x-two", "2");
      const value = create(ErrorInfoSchema, { reason: "WHY", domain: "test" });
      throw new ConnectError("with details", Code.Aborted, { "x-meta": "m" }, [
        { desc: ErrorInfoSchema, value },
      ]);
    }
    case "defect":
      throw new TypeError("not foreseen");
    case "wait":
      waiting.push(context.signal);
      if ((context.timeoutMs() ?? longMs) >= longMs && context.requestHeader.get("x-stay") === null) return;
      await new Promise<void>((resolve) => {
        if (context.signal.aborted) resolve();
        context.signal.addEventListener("abort", () => resolve());
      });
      throw context.signal.reason;
  }
}
