import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { CompletedSchema, FinishReason } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { UsageSchema } from "../../../gen/sessionbroker/v1/usage_pb.js";
import { toChunk, toCompletion, toFinishReason, toUsage, toUsageChunk } from "./chat-response.js";

const head = { id: "chatcmpl-1", created: 5, model: "echo" };
const usage = create(UsageSchema, {
  ...{ inputTokens: 10n, cacheReadTokens: 20n, cacheWriteTokens: 30n, outputTokens: 7n, reasoningTokens: 3n },
});
const openaiUsage = {
  prompt_tokens: 60,
  completion_tokens: 7,
  total_tokens: 67,
  prompt_tokens_details: { cached_tokens: 20 },
  completion_tokens_details: { reasoning_tokens: 3 },
};

it("makes a completion", () => {
  const ending = create(CompletedSchema, { text: "hi", finishReason: FinishReason.STOP, usage });
  expect(toCompletion(head, ending, "")).toEqual({
    ...head,
    object: "chat.completion",
    choices: [
      {
        index: 0,
        message: { role: "assistant", content: "hi", refusal: null },
        logprobs: null,
        finish_reason: "stop",
      },
    ],
    usage: openaiUsage,
  });
  expect(toCompletion(head, ending, "hm").choices[0]?.message).toMatchObject({ reasoning_content: "hm" });
});

it("makes chunks", () => {
  expect(toChunk(head, { content: "h" }, null, false)).toEqual({
    ...head,
    object: "chat.completion.chunk",
    choices: [{ index: 0, delta: { content: "h" }, logprobs: null, finish_reason: null }],
  });
  expect(toChunk(head, {}, "stop", true)).toMatchObject({
    usage: null,
    choices: [{ finish_reason: "stop" }],
  });
  expect(toUsageChunk(head, usage)).toEqual({
    ...head,
    object: "chat.completion.chunk",
    choices: [],
    usage: openaiUsage,
  });
});

it("counts nothing where nothing was stated", () => {
  expect(toUsage(undefined)).toMatchObject({ prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 });
});

it.each([
  [FinishReason.UNSPECIFIED, "stop"],
  [FinishReason.STOP, "stop"],
  [FinishReason.LENGTH, "length"],
  [FinishReason.REFUSAL, "content_filter"],
])("finish reason %s is %s", (reason, name) => {
  expect(toFinishReason(reason)).toBe(name);
});
