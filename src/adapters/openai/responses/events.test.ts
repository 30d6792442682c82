import { create } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import {
  Cancelled_Reason as CancelReason,
  FinishReason,
  TurnErrorCode,
  TurnEventSchema,
} from "../../../../gen/sessionbroker/v1/turn_pb.js";
import { ResponseEvents } from "./events.js";
import { toResponseRequest } from "./request.js";
import { responseIdOf, responseLabels, turnIdOfResponse } from "./resource.js";

type Payload = NonNullable<Parameters<typeof create<typeof TurnEventSchema>>[1]>["event"];

const labels = { api: "responses", model: "m" };

function endingOf(ending: Payload, ...before: Payload[]) {
  const events = new ResponseEvents({ turnId: "t", createdAt: 5, labels });
  for (const [index, event] of [...before, ending].entries()) {
    const time = { seconds: 9n };
    events.apply(
      create(TurnEventSchema, { sequence: index + 1, time, ...(event === undefined ? {} : { event }) }),
    );
  }
  return events.response;
}

describe("a response that has ended", () => {
  const text: Payload = { case: "textDelta", value: { text: "par" } };
  it.each([
    [
      { case: "completed", value: { text: "part" } },
      { status: "completed", completed_at: 9, error: null },
    ],
    [
      { case: "completed", value: { text: "part", finishReason: FinishReason.LENGTH } },
      { status: "incomplete", incomplete_details: { reason: "max_output_tokens" } },
    ],
    [
      { case: "completed", value: { text: "part", finishReason: FinishReason.REFUSAL } },
      { status: "incomplete", incomplete_details: { reason: "content_filter" } },
    ],
    [
      { case: "failed", value: { error: { code: TurnErrorCode.CRASHED, message: "gone" } } },
      { status: "failed", error: { code: "server_error", message: "crashed: gone" } },
    ],
    [
      { case: "failed", value: { error: { code: TurnErrorCode.CONTEXT_OVERFLOW, message: "full" } } },
      { status: "failed", error: { code: "invalid_prompt" } },
    ],
    [{ case: "cancelled", value: { reason: CancelReason.REQUESTED } }, { status: "cancelled" }],
    [
      { case: "interrupted", value: {} },
      { status: "failed", error: { code: "server_error" } },
    ],
  ] satisfies [Payload, object][])("with %j is %j", (ending, response) => {
    const said = ending.case === "completed" ? "part" : "par";
    expect(endingOf(ending, { case: "accepted", value: {} }, text)).toMatchObject({
      ...response,
      output: [
        { content: [{ text: said }], status: response.status === "completed" ? "completed" : "incomplete" },
      ],
    });
  });

  it("has its answer in the ending, where no other event is kept", () => {
    expect(endingOf({ case: "completed", value: { text: "all" } })?.output).toMatchObject([
      { type: "message", content: [{ text: "all" }] },
    ]);
  });

  it("without a word is an empty message", () => {
    expect(endingOf({ case: "completed", value: { text: "" } })?.output).toMatchObject([
      { type: "message", content: [{ text: "" }] },
    ]);
  });
});

describe("the id of a response", () => {
  it.each([
    ["resp_0b8dc3e8-3d6d", "0b8dc3e8-3d6d"],
    ["resp_", undefined],
    ["resp_a/b", undefined],
    ["chatcmpl-1", undefined],
    [`resp_${"x".repeat(129)}`, undefined],
  ])("%s is of the turn %s", (id, turnId) => {
    expect(turnIdOfResponse(id)).toBe(turnId);
    if (turnId !== undefined) expect(responseIdOf(turnId)).toBe(id);
  });
});

it("metadata is kept with the turn as far as there is room", () => {
  const metadata = { a: "1", [`k${"x".repeat(60)}`]: "2", b: "x".repeat(300), c: "3" };
  const request = toResponseRequest({ model: "m", input: "hi", metadata });
  const kept = responseLabels(request);
  expect(kept).toEqual({ api: "responses", model: "m", "metadata.a": "1", "metadata.c": "3" });
  const events = new ResponseEvents({ turnId: "t", createdAt: 5, labels: kept });
  events.apply(create(TurnEventSchema, { sequence: 1, event: { case: "accepted", value: {} } }));
  expect(events.response?.metadata).toEqual({ a: "1", c: "3" });
});
