/** Turns over the wire, and the events that they have had so far. */
import { randomUUID } from "node:crypto";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { expect } from "vitest";
import type { DispatchRequestSchema, TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { BrokerClient } from "./broker.js";

type Kind = NonNullable<TurnEvent["event"]["case"]>;
type ValueOf<K extends Kind> = Extract<TurnEvent["event"], { case: K }>["value"];

export interface FollowedTurn {
  readonly turnId: string;
  readonly events: readonly TurnEvent[];
  /** Resolves to all events. */
  readonly ended: Promise<readonly TurnEvent[]>;
  /** Waits for the first event of a kind. */
  event<K extends Kind>(kind: K): Promise<ValueOf<K>>;
  cases(): (string | undefined)[];
}

export function dispatchTurn(
  client: BrokerClient,
  text: string,
  request: MessageInitShape<typeof DispatchRequestSchema>,
): FollowedTurn {
  const turnId = randomUUID();
  const input = [{ part: { case: "text" as const, value: text } }];
  return followed(turnId, client.dispatch({ turnId, input, ...request }));
}

export function attachTurn(client: BrokerClient, turnId: string, afterSequence = 0): FollowedTurn {
  return followed(turnId, client.attach({ turnId, afterSequence }));
}

function followed(
  turnId: string,
  stream: AsyncIterable<{ readonly event?: TurnEvent | undefined }>,
): FollowedTurn {
  const events: TurnEvent[] = [];
  const ended = (async () => {
    for await (const { event } of stream) if (event !== undefined) events.push(event);
    return events;
  })();
  // A test that only waits for an event sees that it does not come.
  ended.catch(() => {});
  return {
    turnId,
    events,
    ended,
    cases: () => events.map(({ event }) => event.case),
    async event<K extends Kind>(kind: K): Promise<ValueOf<K>> {
      const first = () => events.find(({ event }) => event.case === kind);
      await expect.poll(first, { timeout: 15_000, message: `${kind} of the turn` }).toBeDefined();
      return first()?.event.value as ValueOf<K>;
    },
  };
}
