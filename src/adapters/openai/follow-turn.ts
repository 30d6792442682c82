/** Runs a turn and follows it to its end, over broken connections. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client, Code, ConnectError } from "@connectrpc/connect";
import type { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";
import type { DispatchRequestSchema, TurnEvent } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { isTransportFailure, reasonOf } from "./errors.js";
import type { Timers } from "./time.js";

export interface FollowOptions {
  readonly broker: Client<typeof SessionBroker>;
  readonly request: MessageInitShape<typeof DispatchRequestSchema> & { readonly turnId: string };
  /** Narrows the search for the turn when attaching. */
  readonly scope: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  readonly timers: Pick<Timers, "sleep">;
  /** How often in a row, without an event in between, a broken stream is taken up again. */
  readonly reattachAttempts: number;
  /** Before the first attempt; doubles with each. */
  readonly reattachDelayMs: number;
  /** Set: the turn is known, and its events after this sequence are read. Default: it is dispatched. */
  readonly attachAfter?: number;
}

/** How long a broker may take to end a stream after the turn's last event. */
const endOfStreamMs = 1_000;

/**
 * Yields each event of the turn once. A stream that breaks, or ends without an
 * ending, is taken up where it was. One that breaks before the turn is accepted
 * may have reached the broker all the same, so it is sent again: with its turn
 * id it runs once, and a client that is told to try again would make it two.
 */
export async function* followTurn(options: FollowOptions): AsyncGenerator<TurnEvent, void> {
  const { broker, request, scope, signal } = options;
  const call: CallOptions = { headers: options.headers, signal };
  let accepted = options.attachAfter !== undefined;
  let mayHaveArrived = false;
  let afterSequence = options.attachAfter ?? 0;
  let { turnId } = request;
  const open = () => {
    const stream: AsyncIterable<{ readonly event?: TurnEvent | undefined }> = accepted
      ? broker.attach({ turnId, scope, afterSequence }, call)
      : broker.dispatch(request, call);
    return stream[Symbol.asyncIterator]();
  };
  let stream = open();
  for (let failures = 0; ; ) {
    let failure: ConnectError;
    try {
      for await (const { event } of { [Symbol.asyncIterator]: () => stream }) {
        if (event === undefined) continue;
        if (event.sequence > 0) {
          if (event.sequence <= afterSequence) continue;
          afterSequence = event.sequence;
          failures = 0;
        }
        accepted ||= event.event.case === "accepted";
        turnId = followedId(request, event);
        yield event;
        if (isEnding(event)) {
          await endOf(stream);
          return;
        }
      }
      failure = new ConnectError("the stream ended before the turn", Code.Aborted);
    } catch (error) {
      failure = ConnectError.from(error);
    }
    failures++;
    // Unavailable is a connection that was not made.
    mayHaveArrived ||= isTransportFailure(failure) && failure.code !== Code.Unavailable;
    const again = accepted ? canAttach(failure) : mayHaveArrived && isTransportFailure(failure);
    if (!again || signal.aborted || failures > options.reattachAttempts) throw failure;
    await options.timers.sleep(options.reattachDelayMs * 2 ** (failures - 1), signal);
    stream = open();
  }
}

/** A stream that is left before its end takes its connection with it, which the next turn could have used. */
async function endOf(stream: AsyncIterator<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, endOfStreamMs);
  });
  // The turn has ended, whatever becomes of the stream.
  await Promise.race([stream.next().catch(() => {}), late]);
  clearTimeout(timer);
}

/** The turn that is followed: that of an earlier try, if the broker knows one. */
export function followedId({ turnId, isRetry }: FollowOptions["request"], event: TurnEvent): string {
  return isRetry === true ? event.turnId : turnId;
}

/** Whether the event is the turn's last. */
export function isEnding({ event }: TurnEvent): boolean {
  return (
    event.case === "completed" ||
    event.case === "failed" ||
    event.case === "cancelled" ||
    event.case === "interrupted"
  );
}

/** Anything but the broker's own answer; or the broker is going away, and the turn is not. */
function canAttach(failure: ConnectError): boolean {
  return reasonOf(failure) === undefined || failure.code === Code.Unavailable;
}
