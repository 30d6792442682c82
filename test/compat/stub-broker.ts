/** A broker whose turns are played by the test, on a real port. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import type {
  AttachRequest,
  CancelTurnRequest,
  DispatchRequest,
  TurnEventSchema,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { type ErrorReason, errorTable } from "../../src/errors.js";
import { type Listening, listen } from "../../src/server/one-port.js";

type Event = MessageInitShape<typeof TurnEventSchema>["event"];

/** What a turn does, event by event. The signal is aborted when the reader leaves. */
export type Play = (request: DispatchRequest, signal: AbortSignal) => AsyncIterable<Event>;

export interface StubBroker {
  readonly url: string;
  readonly dispatched: DispatchRequest[];
  readonly attached: AttachRequest[];
  readonly cancelled: CancelTurnRequest[];
  readonly authorizations: (string | null)[];
  /** Of dispatches whose reader left. */
  readonly abandoned: string[];
  baseScope: string;
  play: Play;
  /** Cuts every connection and stops listening. */
  stop(): Promise<void>;
  /** Listens again where it did. */
  restart(): Promise<void>;
}

export async function startStubBroker(): Promise<StubBroker> {
  const handler = connectNodeAdapter({
    routes({ service }) {
      service(SessionBroker, {
        getServerInfo(_, { requestHeader }) {
          const authorization = requestHeader.get("authorization");
          broker.authorizations.push(authorization);
          if (authorization !== "Bearer good") throw brokerError("UNAUTHENTICATED");
          return {
            baseScope: broker.baseScope,
            startedAt: { seconds: 1_700_000_000n },
            providers: [
              { id: "echo", models: ["small", "vendor/large"] },
              { id: "claude", models: [] },
            ],
          };
        },
        async *dispatch(request, { signal, requestHeader }) {
          broker.dispatched.push(request);
          broker.authorizations.push(requestHeader.get("authorization"));
          signal.addEventListener("abort", () => broker.abandoned.push(request.turnId));
          yield* events(request.turnId, 1, broker.play(request, signal));
        },
        async *attach(request, { signal }) {
          broker.attached.push(request);
          const { turnId, afterSequence } = request;
          const original = broker.dispatched.find((dispatched) => dispatched.turnId === turnId);
          if (original === undefined) throw brokerError("TURN_NOT_FOUND");
          yield* events(turnId, afterSequence + 1, broker.play(original, signal));
        },
        cancelTurn(request, { requestHeader }) {
          broker.cancelled.push(request);
          broker.authorizations.push(requestHeader.get("authorization"));
          return {};
        },
      });
    },
  });

  let listening: Listening = await listen({ host: "127.0.0.1", port: 0, handler });
  const { port } = listening;
  const broker: StubBroker = {
    url: `http://127.0.0.1:${port}`,
    ...{ dispatched: [], attached: [], cancelled: [], authorizations: [], abandoned: [], baseScope: "" },
    play: say("hello"),
    stop: () => listening.close(0),
    async restart() {
      listening = await listen({ host: "127.0.0.1", port, handler });
    },
  };
  return broker;
}

async function* events(turnId: string, firstSequence: number, play: AsyncIterable<Event>) {
  let sequence = firstSequence;
  for await (const event of play) {
    const kept = event?.case !== "queued" && event?.case !== "heartbeat";
    yield { event: { turnId, sequence: kept ? sequence++ : 0, ...(event === undefined ? {} : { event }) } };
  }
}

export const accepted: Event = {
  case: "accepted",
  value: { outcome: Outcome.CREATED, session: { sessionId: "session-ü" } },
};

export function delta(text: string): Event {
  return { case: "textDelta", value: { text } };
}

export function completed(text: string): Event {
  const usage = {
    inputTokens: 3n,
    cacheReadTokens: 2n,
    cacheWriteTokens: 1n,
    outputTokens: 4n,
    reasoningTokens: 1n,
  };
  return { case: "completed", value: { text, usage } };
}

/** A turn that says this in pieces and completes. */
export function say(...pieces: string[]): Play {
  return async function* () {
    yield accepted;
    for (const piece of pieces) yield delta(piece);
    yield completed(pieces.join(""));
  };
}

/** A turn that does these things. */
export function perform(...events: Event[]): Play {
  return async function* () {
    yield* events;
  };
}

export function brokerError(reason: ErrorReason): ConnectError {
  const detail = { desc: ErrorInfoSchema, value: { reason } };
  return new ConnectError(`refused: ${reason}`, errorTable[reason].code ?? Code.Unknown, undefined, [detail]);
}
