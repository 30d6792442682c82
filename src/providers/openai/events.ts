/**
 * From the records of a stream to the events of a turn.
 *
 *     open ──the terminal record──▶ finished
 *       └────a record of an error──▶ failed
 */
import { FinishReason } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderEvent, TurnUsage } from "../../turns/provider.js";
import type { Failure } from "../ending.js";
import { mostAnswerBytes, OutputLimitError } from "../lines.js";
import { classifyError, errorIn } from "./failures.js";
import { asList, asObject, asString, type Json, parseObject } from "./json.js";
import type { Api } from "./service.js";
import { usageOf } from "./usage.js";

export abstract class AnswerReader {
  /** All text events, one after another. */
  text = "";
  model: string | undefined;
  usage: TurnUsage | undefined;
  /** Set by the terminal record. */
  finish: FinishReason | undefined;
  failure: Failure | undefined;
  /** Nothing that counts can follow. */
  isOver = false;
  #bytes = 0;
  #message: string | undefined;

  /** @param data of one server-sent event. Throws OutputLimitError. */
  abstract read(data: string): ProviderEvent[];

  /** Between two messages of one answer their words would run together without a break. */
  protected addText(text: string, message = ""): ProviderEvent[] {
    if (text === "") return [];
    const separator = this.text !== "" && this.#message !== message ? "\n\n" : "";
    this.#message = message;
    this.#count(separator + text);
    this.text += separator + text;
    return [{ kind: "text", text: separator + text }];
  }

  protected addReasoning(text: string): ProviderEvent[] {
    if (text === "") return [];
    this.#count(text);
    return [{ kind: "reasoning", text }];
  }

  protected fail(record: Json): ProviderEvent[] {
    this.failure = classifyError(errorIn(record) ?? { message: "no reason given" });
    this.isOver = true;
    return [];
  }

  #count(text: string): void {
    this.#bytes += Buffer.byteLength(text);
    if (this.#bytes > mostAnswerBytes)
      throw new OutputLimitError(`more than ${mostAnswerBytes} bytes of answer`);
  }
}

export function readerOf(api: Api): AnswerReader {
  return api === "responses" ? new ResponsesReader() : new ChatReader();
}

/** https://platform.openai.com/docs/api-reference/responses-streaming */
class ResponsesReader extends AnswerReader {
  #isRefusal = false;

  read(data: string): ProviderEvent[] {
    const record = this.isOver ? undefined : parseObject(data);
    const item = asString(record?.item_id) ?? "";
    switch (record?.type) {
      case "response.output_text.delta":
        return this.addText(asString(record.delta) ?? "", item);
      case "response.refusal.delta":
        this.#isRefusal = true;
        return this.addText(asString(record.delta) ?? "", item);
      case "response.reasoning_summary_text.delta":
      case "response.reasoning_text.delta":
        return this.addReasoning(asString(record.delta) ?? "");
      case "response.completed":
      case "response.incomplete":
        return this.#finish(asObject(record.response) ?? {});
      case "response.failed":
        return this.#failed(asObject(record.response) ?? {});
      case "error":
        return this.fail(record);
      default:
        return [];
    }
  }

  #finish(response: Json): ProviderEvent[] {
    this.#account(response);
    const reason = asString(asObject(response.incomplete_details)?.reason);
    const isFiltered = reason === "content_filter" || this.#isRefusal;
    this.finish = isFiltered
      ? FinishReason.REFUSAL
      : response.status === "incomplete"
        ? FinishReason.LENGTH
        : FinishReason.STOP;
    this.isOver = true;
    // Some services stream nothing and say it all at the end.
    return this.text === "" ? this.addText(outputText(response)) : [];
  }

  #failed(response: Json): ProviderEvent[] {
    this.#account(response);
    return this.fail(response);
  }

  #account(response: Json): void {
    this.model = asString(response.model) ?? this.model;
    this.usage = usageOf(response.usage) ?? this.usage;
  }
}

function outputText(response: Json): string {
  const contents = asList(response.output).flatMap((item) => asList(asObject(item)?.content));
  return contents
    .map((content) => asObject(content))
    .map((content) => (content?.type === "output_text" ? (asString(content.text) ?? "") : ""))
    .join("");
}

/**
 * https://platform.openai.com/docs/api-reference/chat-streaming. The reason for
 * its end is an answer's terminal record; its usage and `[DONE]` come after it.
 */
class ChatReader extends AnswerReader {
  #isRefusal = false;

  read(data: string): ProviderEvent[] {
    if (this.isOver) return [];
    if (data.trim() === "[DONE]") {
      this.finish ??= FinishReason.STOP;
      this.isOver = true;
      return [];
    }
    const record = parseObject(data);
    if (record === undefined) return [];
    if (record.error !== undefined && record.error !== null) return this.fail(record);
    this.model = asString(record.model) ?? this.model;
    this.usage = usageOf(record.usage) ?? this.usage;
    const choice = asObject(asList(record.choices)[0]);
    const delta = asObject(choice?.delta) ?? {};
    const refusal = asString(delta.refusal) ?? "";
    this.#isRefusal ||= refusal !== "";
    const events = [
      // Not of OpenAI's interface: what servers of open models call it.
      ...this.addReasoning(asString(delta.reasoning_content) ?? asString(delta.reasoning) ?? ""),
      ...this.addText((asString(delta.content) ?? "") + refusal),
    ];
    const reason = asString(choice?.finish_reason);
    if (reason !== undefined && reason !== "") this.finish = this.#finishOf(reason);
    return events;
  }

  #finishOf(reason: string): FinishReason {
    if (reason === "length") return FinishReason.LENGTH;
    return reason === "content_filter" || this.#isRefusal ? FinishReason.REFUSAL : FinishReason.STOP;
  }
}
