/** Items of a conversation that are tools at work, as both modes name them. */
import type { ProviderEvent } from "../../turns/provider.js";
import { asList, asNumber, asRecord, asString, type JsonRecord } from "../json.js";

interface ToolItem {
  readonly name: string;
  readonly input: JsonRecord;
  readonly output: string;
}

/** The tool in an item; undefined if it is something else. */
export function toolCall(item: JsonRecord): ProviderEvent | undefined {
  const tool = toolOf(item);
  if (tool === undefined) return undefined;
  return { kind: "tool-call", id: idOf(item), name: tool.name, input: JSON.stringify(tool.input) };
}

/** What came of the tool in an item that is complete. */
export function toolResult(item: JsonRecord): ProviderEvent | undefined {
  const tool = toolOf(item);
  if (tool === undefined) return undefined;
  return { kind: "tool-result", id: idOf(item), output: tool.output, isError: hasFailed(item) };
}

export function idOf(item: JsonRecord): string {
  return asString(item.id) ?? "";
}

function toolOf(item: JsonRecord): ToolItem | undefined {
  switch (item.type) {
    case "commandExecution":
    case "command_execution": {
      const { command, cwd } = item;
      return {
        name: "commandExecution",
        input: { command, ...(cwd === undefined ? {} : { cwd }) },
        output: asString(item.aggregatedOutput) ?? asString(item.aggregated_output) ?? "",
      };
    }
    case "fileChange":
    case "file_change": {
      const changes = asList(item.changes);
      const output = changes.map((change) => asString(asRecord(change)?.path) ?? "").join("\n");
      return { name: "fileChange", input: { changes }, output };
    }
    case "mcpToolCall":
    case "mcp_tool_call": {
      const name = [item.server, item.tool].map((part) => asString(part) ?? "").join(".");
      return { name, input: asRecord(item.arguments) ?? {}, output: mcpOutput(item) };
    }
    case "dynamicToolCall":
    case "collabAgentToolCall":
    case "collab_tool_call":
      return {
        name: asString(item.tool) ?? "",
        input: asRecord(item.arguments) ?? (item.prompt === undefined ? {} : { prompt: item.prompt }),
        output: JSON.stringify(item.contentItems ?? item.agentsStates ?? ""),
      };
    case "webSearch":
    case "web_search":
      return { name: "webSearch", input: { query: item.query }, output: "" };
    case "imageView":
      return { name: "imageView", input: { path: item.path }, output: "" };
    default:
      return undefined;
  }
}

function mcpOutput({ result, error }: JsonRecord): string {
  const message = asString(asRecord(error)?.message);
  if (message !== undefined) return message;
  return asList(asRecord(result)?.content)
    .map((part) => asString(asRecord(part)?.text) ?? JSON.stringify(part))
    .join("\n");
}

function hasFailed(item: JsonRecord): boolean {
  const code = asNumber(item.exitCode) ?? asNumber(item.exit_code) ?? 0;
  return item.status === "failed" || item.status === "declined" || code !== 0;
}
