/** The items of a response: messages, and reasoning between them. */
import type { ResponseOutputItem, ResponseOutputText } from "openai/resources/responses/responses";
import type { Unnumbered } from "./events.js";

export type ItemKind = "message" | "reasoning";

export interface OpenItem {
  readonly kind: ItemKind;
  readonly turnId: string;
  readonly index: number;
  text: string;
}

type Status = "in_progress" | "completed" | "incomplete";

export function itemOf(item: OpenItem, status: Status): ResponseOutputItem {
  const begun = status !== "in_progress";
  return item.kind === "message"
    ? { ...head(item), type: "message", role: "assistant", status, content: begun ? [textOf(item)] : [] }
    : { ...head(item), type: "reasoning", status, summary: begun ? [summaryOf(item)] : [] };
}

export function itemStart(item: OpenItem): Unnumbered[] {
  const empty = { ...item, text: "" };
  return [
    { type: "response.output_item.added", output_index: item.index, item: itemOf(empty, "in_progress") },
    item.kind === "message"
      ? { type: "response.content_part.added", ...partAt(item), part: textOf(empty) }
      : { type: "response.reasoning_summary_part.added", ...summaryAt(item), part: summaryOf(empty) },
  ];
}

export function itemDelta(item: OpenItem, delta: string): Unnumbered {
  return item.kind === "message"
    ? { type: "response.output_text.delta", ...partAt(item), delta, logprobs: [] }
    : { type: "response.reasoning_summary_text.delta", ...summaryAt(item), delta };
}

export function itemEnd(item: OpenItem, status: "completed" | "incomplete"): Unnumbered[] {
  const { text } = item;
  const done: Unnumbered[] =
    item.kind === "message"
      ? [
          { type: "response.output_text.done", ...partAt(item), text, logprobs: [] },
          { type: "response.content_part.done", ...partAt(item), part: textOf(item) },
        ]
      : [
          { type: "response.reasoning_summary_text.done", ...summaryAt(item), text },
          { type: "response.reasoning_summary_part.done", ...summaryAt(item), part: summaryOf(item) },
        ];
  return [
    ...done,
    { type: "response.output_item.done", output_index: item.index, item: itemOf(item, status) },
  ];
}

function head({ kind, turnId, index }: OpenItem): { id: string } {
  return { id: `${kind === "message" ? "msg" : "rs"}_${turnId}_${index}` };
}

function partAt(item: OpenItem) {
  return { item_id: head(item).id, output_index: item.index, content_index: 0 };
}

function summaryAt(item: OpenItem) {
  return { item_id: head(item).id, output_index: item.index, summary_index: 0 };
}

function textOf({ text }: OpenItem): ResponseOutputText {
  return { type: "output_text", text, annotations: [], logprobs: [] };
}

function summaryOf({ text }: OpenItem): { type: "summary_text"; text: string } {
  return { type: "summary_text", text };
}
