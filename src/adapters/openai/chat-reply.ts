/** The two ways to answer a chat request: at once as JSON, or piece by piece. */
import type { ServerResponse } from "node:http";
import type { Completed } from "../../../gen/sessionbroker/v1/turn_pb.js";
import {
  type AnswerHead,
  type FinishReasonName,
  toChunk,
  toCompletion,
  toFinishReason,
  toUsageChunk,
} from "./chat-response.js";
import { type ApiError, sendError } from "./errors.js";
import { sendJson } from "./json.js";
import { type EventStream, openEventStream } from "./sse.js";

export interface ChatReply {
  /** The turn will run; the headers go with every answer from here on. */
  accepted(head: AnswerHead, headers: Readonly<Record<string, string>>): Promise<void>;
  text(text: string): Promise<void>;
  reasoning(text: string): Promise<void>;
  /** The turn still waits or works. */
  alive(): void;
  completed(ending: Completed): Promise<void>;
  failed(error: ApiError): Promise<void>;
}

/** OpenAI's last line of a stream. */
const doneMark = "[DONE]";

export function createJsonReply(res: ServerResponse): ChatReply {
  let head: AnswerHead | undefined;
  let headers: Readonly<Record<string, string>> = {};
  let reasoning = "";
  return {
    async accepted(...given) {
      [head, headers] = given;
    },
    async text() {},
    async reasoning(text) {
      reasoning += text;
    },
    alive() {},
    async completed(ending) {
      if (head === undefined) throw new Error("the turn ended before it was accepted");
      sendJson(res, 200, toCompletion(head, ending, reasoning), headers);
    },
    async failed(error) {
      sendError(res, error, headers);
    },
  };
}

export function createStreamReply(
  res: ServerResponse,
  includeUsage: boolean,
  every: (callback: () => void) => () => void,
): ChatReply {
  let open: { head: AnswerHead; stream: EventStream } | undefined;
  let sentLength = 0;

  async function chunk(delta: Parameters<typeof toChunk>[1], finishReason: FinishReasonName | null = null) {
    if (open === undefined) throw new Error("the turn spoke before it was accepted");
    await open.stream.send(toChunk(open.head, delta, finishReason, includeUsage));
  }

  return {
    async accepted(head, headers) {
      open = { head, stream: openEventStream(res, headers, every) };
      await chunk({ role: "assistant", content: "" });
    },
    async text(text) {
      sentLength += text.length;
      await chunk({ content: text });
    },
    reasoning: (text) => chunk({ reasoning_content: text }),
    alive: () => open?.stream.keepAlive(),
    async completed(ending) {
      // A turn whose events are no longer kept has its answer in the ending alone.
      const rest = ending.text.slice(sentLength);
      if (rest !== "") await chunk({ content: rest });
      await chunk({}, toFinishReason(ending.finishReason));
      if (includeUsage && open) await open.stream.send(toUsageChunk(open.head, ending.usage));
      await open?.stream.end(doneMark);
    },
    async failed(error) {
      if (open === undefined) {
        sendError(res, error);
        return;
      }
      await open.stream.send(error.toBody());
      await open.stream.end(doneMark);
    },
  };
}
