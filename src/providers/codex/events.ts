/** From what the agent says in a turn to the events of the turn, in both modes. */
import type { ProviderEvent } from "../../turns/provider.js";
import { asList, asNumber, asRecord, asString, type JsonRecord, parseRecord } from "../json.js";
import { idOf, toolCall, toolResult } from "./items.js";

/** Text is taken from the deltas; an item that came without any is taken as a whole. */
export class EventReader {
  /** All text events, one after another. */
  text = "";
  #textItem: string | undefined;
  #reasoningItem: string | undefined;
  /** Items of which deltas have come. */
  readonly #streamed = new Set<string>();
  /** What each tool was called with, as JSON. */
  readonly #toolCalls = new Map<string, string>();

  /** A notification of the app server about this turn. */
  read(method: string, params: JsonRecord): ProviderEvent[] {
    const item = asRecord(params.item) ?? {};
    const delta = asString(params.delta) ?? "";
    const itemId = asString(params.itemId) ?? "";
    switch (method) {
      case "item/agentMessage/delta":
        this.#streamed.add(itemId);
        return this.#addText(delta, itemId);
      case "item/reasoning/summaryTextDelta":
      case "item/reasoning/textDelta":
        this.#streamed.add(itemId);
        return this.#addReasoning(delta, `${itemId} ${asNumber(params.summaryIndex) ?? "text"}`);
      case "item/started":
        return this.#readStarted(item);
      case "item/completed":
        return this.#readCompleted(item);
      case "error":
        return params.willRetry === true ? [retryNotice(asRecord(params.error) ?? {})] : [];
      case "warning":
        return [{ kind: "notice", message: asString(params.message) ?? "" }];
      default:
        return [];
    }
  }

  /** A record of `codex exec`, its last one excepted. */
  readExec(record: JsonRecord): ProviderEvent[] {
    const item = asRecord(record.item) ?? {};
    switch (record.type) {
      case "item.started":
        return this.#readStarted(item);
      case "item.completed":
        return this.#readCompleted(item);
      default:
        return [];
    }
  }

  /** What the tool was called with whose item this is. */
  inputOf(itemId: string): JsonRecord {
    return parseRecord(this.#toolCalls.get(itemId) ?? "") ?? {};
  }

  #readStarted(item: JsonRecord): ProviderEvent[] {
    const call = toolCall(item);
    if (call?.kind !== "tool-call" || this.#toolCalls.has(call.id)) return [];
    this.#toolCalls.set(call.id, call.input);
    return [call];
  }

  #readCompleted(item: JsonRecord): ProviderEvent[] {
    const id = idOf(item);
    const isNew = !this.#streamed.has(id);
    switch (item.type) {
      case "agentMessage":
      case "agent_message":
        return isNew ? this.#addText(asString(item.text) ?? "", id) : [];
      case "reasoning": {
        const whole = asString(item.text) ?? asList(item.summary).join("\n\n");
        return isNew ? this.#addReasoning(whole, id) : [];
      }
      // A mere warning: a failure is told by the record that ends the turn.
      case "error":
        return [{ kind: "notice", message: asString(item.message) ?? "" }];
      default: {
        const result = toolResult(item);
        return result === undefined ? [] : [...this.#readStarted(item), result];
      }
    }
  }

  /** Between two messages lies a tool call; without a break their words would run together. */
  #addText(text: string, itemId: string): ProviderEvent[] {
    if (text === "") return [];
    const separator = this.text !== "" && this.#textItem !== itemId ? "\n\n" : "";
    this.#textItem = itemId;
    this.text += separator + text;
    return [{ kind: "text", text: separator + text }];
  }

  #addReasoning(text: string, part: string): ProviderEvent[] {
    if (text === "") return [];
    const separator = this.#reasoningItem !== undefined && this.#reasoningItem !== part ? "\n\n" : "";
    this.#reasoningItem = part;
    return [{ kind: "reasoning", text: separator + text }];
  }
}

function retryNotice(error: JsonRecord): ProviderEvent {
  const reason = asString(error.additionalDetails) ?? asString(error.message) ?? "no reason given";
  return { kind: "notice", message: `The model's service failed and is asked again (${reason}).` };
}
