import { create } from "@bufbuild/protobuf";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type TurnEvent, TurnEventSchema } from "../../../../gen/sessionbroker/v1/turn_pb.js";
import { mergeDeltas } from "../../../turns/merge-deltas.js";
import { type ResponseEvent, ResponseEvents } from "./events.js";
import { eventsAfter } from "./resume.js";

type Payload = NonNullable<Parameters<typeof create<typeof TurnEventSchema>>[1]>["event"];

const head = { turnId: "t", createdAt: 5, labels: { api: "responses", model: "m" } };
const accepted: Payload = { case: "accepted", value: {} };
const started: Payload = { case: "started", value: {} };
const tool: Payload = { case: "toolCall", value: { id: "1" } };
const text = (value: string): Payload => ({ case: "textDelta", value: { text: value } });
const think = (value: string): Payload => ({ case: "reasoningDelta", value: { text: value } });

function turnOf(...said: Payload[]): TurnEvent[] {
  const whole = said.map((event) => (event?.case === "textDelta" ? event.value.text : "")).join("");
  const payloads = [accepted, started, ...said, { case: "completed" as const, value: { text: whole } }];
  return payloads.map((event, index) =>
    create(TurnEventSchema, { sequence: index + 1, ...(event === undefined ? {} : { event }) }),
  );
}

/** A broker that merges what follows one another up to so many bytes, and never across a reader's cursor. */
function attachTo(turn: readonly TurnEvent[], mostBytes: number) {
  return async function* (after: number) {
    yield* mergeDeltas(turn.slice(after), mostBytes);
    yield create(TurnEventSchema, { event: { case: "heartbeat", value: {} } });
  };
}

async function read(turn: readonly TurnEvent[], after: number, mostBytes: number): Promise<ResponseEvent[]> {
  const sent = [];
  for await (const event of eventsAfter(after, new ResponseEvents(head), attachTo(turn, mostBytes))) {
    if (event !== "alive") sent.push(event);
  }
  return sent;
}

/** Deltas that follow one another as one, with the number of the last. */
function joined(events: readonly ResponseEvent[]): ResponseEvent[] {
  const list: ResponseEvent[] = [];
  for (const event of events) {
    const last = list.at(-1);
    if (last?.type === "response.output_text.delta" && event.type === last.type)
      list[list.length - 1] = { ...event, delta: last.delta + event.delta };
    else if (last?.type === "response.reasoning_summary_text.delta" && event.type === last.type)
      list[list.length - 1] = { ...event, delta: last.delta + event.delta };
    else list.push(event);
  }
  return list;
}

describe("eventsAfter", () => {
  it("gives what follows any number, however the broker merges deltas", async () => {
    const pieces = fc.string({ minLength: 0, maxLength: 3 });
    const payload = fc.oneof(pieces.map(text), pieces.map(think), fc.constant(tool));
    await fc.assert(
      fc.asyncProperty(
        fc.array(payload, { maxLength: 12 }),
        fc.integer({ min: 0, max: 40 }),
        async (said, most) => {
          const turn = turnOf(...said);
          const whole = await read(turn, -1, -1);
          expect(whole.map(({ sequence_number: number }) => number)).toEqual(whole.map((_, i) => i));
          for (let after = -1; after < whole.length; after++) {
            expect(joined(await read(turn, after, most))).toEqual(joined(whole.slice(after + 1)));
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe("numbers", () => {
  it("lie beyond all that was given out before a crash", () => {
    const seen = new ResponseEvents(head);
    const live = [accepted, started, text("a"), think("b"), text("c")].map((event, i) =>
      create(TurnEventSchema, { sequence: i + 1, ...(event === undefined ? {} : { event }) }),
    );
    for (const event of live) seen.apply(event);
    // The broker had reserved 64 sequences, and only the first two are on disk.
    const after = new ResponseEvents(head);
    for (const event of live.slice(0, 2)) after.apply(event);
    const interrupted = { case: "interrupted" as const, value: { journaledThrough: 2 } };
    const sent = after.apply(create(TurnEventSchema, { sequence: 65, event: interrupted }));
    expect(sent.map(({ event }) => event.type)).toEqual(["response.failed"]);
    expect(sent[0]?.event.sequence_number).toBeGreaterThan(seen.nextNumber);
  });
});
