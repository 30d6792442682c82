/** Which of the offered options an answer is. What holds for longer than this once is never chosen. */
import { asList, asRecord, asString, type JsonRecord } from "../json.js";

/** Undefined: there is no such option, so that the question stays without an answer. */
export function optionFor(params: JsonRecord, allowed: boolean): string | undefined {
  const kind = allowed ? "allow_once" : "reject_once";
  const option = asList(params.options)
    .map((each) => asRecord(each) ?? {})
    .find((each) => each.kind === kind);
  return asString(option?.optionId);
}

/** What is asked, for those who are to answer. */
export function describeQuestion(params: JsonRecord): { readonly tool: string; readonly input: string } {
  const toolCall = asRecord(params.toolCall) ?? {};
  const { title, kind, rawInput, content, locations } = toolCall;
  return {
    tool: asString(title) ?? asString(kind) ?? "tool",
    input: JSON.stringify({ kind, rawInput, content, locations }),
  };
}
