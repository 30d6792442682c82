/** From the records of `--output-format stream-json` to the events of a turn. */
import type { ProviderEvent } from "../../turns/provider.js";
import { asRecord, asString, type JsonRecord } from "../json.js";

export class EventReader {
  /** All text events, one after another. */
  text = "";
  /** The last complaint, if nothing has followed it. */
  complaint: string | undefined;
  #toolSinceText = false;

  /** The records before the terminal one. */
  read(record: JsonRecord): ProviderEvent[] {
    this.complaint = undefined;
    switch (record.type) {
      case "message":
        return record.role === "assistant" ? this.#readText(asString(record.content) ?? "") : [];
      case "tool_use":
        this.#toolSinceText = true;
        return [
          {
            kind: "tool-call",
            id: asString(record.tool_id) ?? "",
            name: asString(record.tool_name) ?? "tool",
            input: JSON.stringify(record.parameters ?? {}),
          },
        ];
      case "tool_result":
        return [
          {
            kind: "tool-result",
            id: asString(record.tool_id) ?? "",
            output: asString(record.output) ?? asString(asRecord(record.error)?.message) ?? "",
            isError: record.status === "error",
          },
        ];
      case "error":
        this.complaint = asString(record.message) ?? "The agent reports an error.";
        return [{ kind: "notice", message: this.complaint }];
      default:
        return [];
    }
  }

  #readText(text: string): ProviderEvent[] {
    if (text === "") return [];
    // Without a break the words before and after a tool call would run together.
    const separator = this.text !== "" && this.#toolSinceText ? "\n\n" : "";
    this.#toolSinceText = false;
    this.text += separator + text;
    return [{ kind: "text", text: separator + text }];
  }
}
