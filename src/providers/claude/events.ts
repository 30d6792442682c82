/** From the agent's records to the events of a turn. */
import type { ProviderEvent } from "../../turns/provider.js";
import { asList, asNumber, asRecord, asString, type ClaudeRecord } from "./records.js";

/** Model name of messages that the CLI has written itself, such as reports of failures. */
const synthetic = "<synthetic>";

/**
 * Reads the records of one turn, its terminal record excepted. Text is taken
 * from the deltas; a message that came without any (the CLI repeats a broken
 * stream as one request) is taken as a whole.
 */
export class EventReader {
  /** All text events, one after another. */
  text = "";
  /** The model that answered last. */
  model: string | undefined;
  /** What the CLI calls the failure of the last request, such as `rate_limit`. */
  failure: string | undefined;

  #message: string | undefined;
  #textMessage: string | undefined;
  readonly #streamedText = new Set<string>();
  readonly #streamedReasoning = new Set<string>();
  readonly #toolCalls = new Set<string>();

  read(record: ClaudeRecord): ProviderEvent[] {
    // Records of a sub-agent name the tool call that it serves. Its text is no answer.
    const isMain = record.parent_tool_use_id === undefined || record.parent_tool_use_id === null;
    switch (record.type) {
      case "stream_event":
        return isMain ? this.#readStream(asRecord(record.event) ?? {}, record) : [];
      case "assistant":
        return this.#readAssistant(record, isMain);
      case "user":
        return readToolResults(asRecord(record.message) ?? {});
      case "system":
        return this.#readSystem(record);
      default:
        return [];
    }
  }

  /** Text that is given out as a message of its own. */
  addText(text: string, message: string): ProviderEvent[] {
    if (text === "") return [];
    // Between two messages lies a tool call; without a break their words would run together.
    const separator = this.text !== "" && this.#textMessage !== message ? "\n\n" : "";
    this.#textMessage = message;
    this.text += separator + text;
    return [{ kind: "text", text: separator + text }];
  }

  #readStream(event: ClaudeRecord, record: ClaudeRecord): ProviderEvent[] {
    if (event.type === "message_start") {
      const message = asRecord(event.message) ?? {};
      this.#message = asString(message.id) ?? "";
      this.model = asString(message.model) ?? this.model;
      return [];
    }
    if (event.type === "message_stop" && asRecord(record.abandoned_blocks) !== undefined) {
      return [{ kind: "notice", message: "The model's answer broke off." }];
    }
    if (event.type !== "content_block_delta") return [];
    const delta = asRecord(event.delta) ?? {};
    const message = this.#message ?? "";
    if (delta.type === "text_delta") {
      this.#streamedText.add(message);
      return this.addText(asString(delta.text) ?? "", message);
    }
    if (delta.type === "thinking_delta") {
      this.#streamedReasoning.add(message);
      return reasoning(asString(delta.thinking) ?? "");
    }
    return [];
  }

  #readAssistant(record: ClaudeRecord, isMain: boolean): ProviderEvent[] {
    const message = asRecord(record.message) ?? {};
    if (message.model === synthetic) {
      this.failure = asString(record.error) ?? this.failure;
      return [];
    }
    const id = asString(message.id) ?? "";
    if (isMain) this.model = asString(message.model) ?? this.model;
    return asList(message.content).flatMap((item): ProviderEvent[] => {
      const block = asRecord(item) ?? {};
      if (block.type === "tool_use") return this.#readToolCall(block);
      if (!isMain) return [];
      if (block.type === "text" && !this.#streamedText.has(id)) {
        return this.addText(asString(block.text) ?? "", id);
      }
      if (block.type === "thinking" && !this.#streamedReasoning.has(id)) {
        return reasoning(asString(block.thinking) ?? "");
      }
      return [];
    });
  }

  #readToolCall(block: ClaudeRecord): ProviderEvent[] {
    const id = asString(block.id) ?? "";
    if (this.#toolCalls.has(id)) return [];
    this.#toolCalls.add(id);
    const input = JSON.stringify(block.input ?? {});
    return [{ kind: "tool-call", id, name: asString(block.name) ?? "", input }];
  }

  #readSystem(record: ClaudeRecord): ProviderEvent[] {
    if (record.subtype === "init") {
      this.model ??= asString(record.model);
      // Another line is taken up; what failed before it is not its failure.
      this.failure = undefined;
    }
    if (record.subtype !== "api_retry") return [];
    const status = asNumber(record.error_status);
    const reason = [status, asString(record.error)].filter((part) => part !== undefined).join(" ");
    const attempt = asNumber(record.attempt) ?? 1;
    const ofAttempts = asNumber(record.max_retries);
    const message =
      `The model's service failed (${reason || "no reason given"}); ` +
      `retry ${attempt}${ofAttempts === undefined ? "" : ` of ${ofAttempts}`} follows.`;
    return [{ kind: "notice", message }];
  }
}

function reasoning(text: string): ProviderEvent[] {
  return text === "" ? [] : [{ kind: "reasoning", text }];
}

function readToolResults(message: ClaudeRecord): ProviderEvent[] {
  return asList(message.content).flatMap((item): ProviderEvent[] => {
    const block = asRecord(item) ?? {};
    if (block.type !== "tool_result") return [];
    return [
      {
        kind: "tool-result",
        id: asString(block.tool_use_id) ?? "",
        output: toolOutput(block.content),
        isError: block.is_error === true,
      },
    ];
  });
}

function toolOutput(content: unknown): string {
  if (typeof content === "string") return content;
  return asList(content)
    .map((item) => {
      const block = asRecord(item) ?? {};
      return asString(block.text) ?? `[${asString(block.type) ?? "unknown"}]`;
    })
    .join("\n");
}
