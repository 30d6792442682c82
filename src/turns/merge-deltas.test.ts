import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { describe, expect, it } from "vitest";
import { type TurnEvent, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import { mergeDeltas } from "./merge-deltas.js";

/** `t:ab` text, `r:ab` reasoning, anything else a tool call; sequences count from 2. */
function events(...words: readonly string[]): TurnEvent[] {
  return words.map((word, i) => {
    const text = word.slice(2);
    const event =
      word[0] === "t"
        ? ({ case: "textDelta", value: { text } } as const)
        : word[0] === "r"
          ? ({ case: "reasoningDelta", value: { text } } as const)
          : ({ case: "toolCall", value: { name: word } } as const);
    return create(TurnEventSchema, { turnId: "turn", sequence: i + 2, time: timestampFromMs(i), event });
  });
}

function words(merged: readonly TurnEvent[]): string[] {
  return merged.map(({ event, sequence, firstSequence }) => {
    const range = firstSequence === 0 ? `${sequence}` : `${firstSequence}-${sequence}`;
    if (event.case === "textDelta") return `${range} t:${event.value.text}`;
    if (event.case === "reasoningDelta") return `${range} r:${event.value.text}`;
    return `${range} ${event.case}`;
  });
}

describe("merging", () => {
  it.each([
    ["nothing", [], []],
    ["one delta, which stays as it is", ["t:a"], ["2 t:a"]],
    ["text", ["t:a", "t:b", "t:c"], ["2-4 t:abc"]],
    ["reasoning apart from text", ["r:a", "r:b", "t:c", "t:d", "r:e"], ["2-3 r:ab", "4-5 t:cd", "6 r:e"]],
    [
      "nothing across another event",
      ["t:a", "t:b", "tool", "t:c"].map((w) => (w === "tool" ? "x:" : w)),
      ["2-3 t:ab", "4 toolCall", "5 t:c"],
    ],
    [
      "only to the most that one may hold",
      ["t:aaaa", "t:bbbb", "t:cc", "t:d"],
      ["2-3 t:aaaabbbb", "4-5 t:ccd"],
    ],
    ["by bytes, not characters", ["t:üüü", "t:ü", "t:a"], ["2-3 t:üüüü", "4 t:a"]],
    [
      "a delta that is longer by itself stays alone",
      ["t:a", "t:bbbbbbbbbbbb", "t:c"],
      ["2 t:a", "3 t:bbbbbbbbbbbb", "4 t:c"],
    ],
    ["empty deltas, too", ["t:", "t:", "t:a"], ["2-4 t:a"]],
  ])("%s", (_, given, expected) => {
    expect(words(mergeDeltas(events(...given), 8))).toEqual(expected);
  });

  it("takes the time of the last part, and changes nothing that it was given", () => {
    const given = events("t:a", "t:b");
    const before = structuredClone(given);
    expect(mergeDeltas(given)[0]?.time).toEqual(timestampFromMs(1));
    expect(given).toEqual(before);
  });
});
