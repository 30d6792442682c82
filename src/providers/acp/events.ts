/** From the updates of a prompt to the events of a turn. */
import type { ProviderEvent } from "../../turns/provider.js";
import { asList, asNumber, asRecord, asString, type JsonRecord } from "../json.js";

interface Tool {
  readonly name: string;
  readonly input: unknown;
  readonly content: readonly unknown[];
  readonly output: unknown;
  readonly isCalled: boolean;
  readonly isDone: boolean;
}

export class EventReader {
  /** All text events, one after another. */
  text = "";
  /** The cost of the conversation in US dollars, if the agent has told it. */
  costUsd: number | undefined;
  readonly #tools = new Map<string, Tool>();
  #toolSinceText = false;

  read(update: JsonRecord): ProviderEvent[] {
    switch (update.sessionUpdate) {
      case "agent_message_chunk":
        return this.#readText(textOf(update.content));
      case "agent_thought_chunk": {
        const text = textOf(update.content);
        return text === "" ? [] : [{ kind: "reasoning", text }];
      }
      case "tool_call":
      case "tool_call_update":
        return this.#readTool(update);
      case "usage_update": {
        const cost = asRecord(update.cost) ?? {};
        if (cost.currency === "USD") this.costUsd = asNumber(cost.amount) ?? this.costUsd;
        return [];
      }
      default:
        return [];
    }
  }

  /** A tool that the agent asks about is called, whatever becomes of it. */
  readAsked(toolCall: JsonRecord): ProviderEvent[] {
    return this.#readTool({ ...toolCall, status: "in_progress" });
  }

  #readText(text: string): ProviderEvent[] {
    if (text === "") return [];
    // Without a break the words before and after a tool call would run together.
    const separator = this.text !== "" && this.#toolSinceText ? "\n\n" : "";
    this.#toolSinceText = false;
    this.text += separator + text;
    return [{ kind: "text", text: separator + text }];
  }

  #readTool(update: JsonRecord): ProviderEvent[] {
    const id = asString(update.toolCallId) ?? "";
    const known = this.#tools.get(id);
    if (known?.isDone === true) return [];
    const status = asString(update.status);
    const isDone = status === "completed" || status === "failed";
    const input = hasContent(update.rawInput) ? update.rawInput : known?.input;
    const tool: Tool = {
      name: asString(update.title) ?? known?.name ?? asString(update.kind) ?? "tool",
      input,
      content: Array.isArray(update.content) ? update.content : (known?.content ?? []),
      output: update.rawOutput ?? known?.output,
      // What is pending may still get its input.
      isCalled: known?.isCalled === true || isDone || status === "in_progress" || input !== undefined,
      isDone,
    };
    this.#tools.set(id, tool);
    this.#toolSinceText = true;
    const events: ProviderEvent[] = [];
    if (tool.isCalled && known?.isCalled !== true) {
      const what = tool.input ?? { kind: update.kind, locations: update.locations };
      events.push({ kind: "tool-call", id, name: tool.name, input: JSON.stringify(what) });
    }
    if (isDone) {
      events.push({ kind: "tool-result", id, output: outputOf(tool), isError: status === "failed" });
    }
    return events;
  }
}

function hasContent(value: unknown): boolean {
  return typeof value === "object" && value !== null ? Object.keys(value).length > 0 : value !== undefined;
}

function textOf(content: unknown): string {
  return asString(asRecord(content)?.text) ?? "";
}

function outputOf({ content, output }: Tool): string {
  const texts = asList(content).map((item) => {
    const part = asRecord(item) ?? {};
    if (part.type === "diff") return `[changed ${asString(part.path) ?? "a file"}]`;
    return asString(asRecord(part.content)?.text) ?? `[${asString(part.type) ?? "unknown"}]`;
  });
  if (texts.length > 0) return texts.join("\n");
  return typeof output === "string" ? output : output === undefined ? "" : JSON.stringify(output);
}
