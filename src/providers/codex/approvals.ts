/** What the app server asks while a turn runs, and what it is answered. */
import { asRecord, type JsonRecord } from "../json.js";

/** A question whether something may be done. */
export interface Question {
  readonly tool: string;
  /** What is to be done. */
  readonly input: JsonRecord;
  /** The answers: for this once, and not at all. */
  readonly allowed: JsonRecord;
  readonly denied: JsonRecord;
}

/** The question in a request; undefined if it is none that a permission answers. */
export function parseQuestion(method: string, params: JsonRecord): Question | undefined {
  switch (method) {
    case "item/commandExecution/requestApproval":
      return decision(
        "commandExecution",
        pick(params, ["command", "cwd", "reason", "networkApprovalContext"]),
      );
    case "item/fileChange/requestApproval":
      return decision("fileChange", pick(params, ["reason", "grantRoot"]));
    case "item/permissions/requestApproval": {
      const permissions = withoutNulls(asRecord(params.permissions) ?? {});
      return {
        tool: "permissions",
        input: pick(params, ["permissions", "cwd", "reason"]),
        allowed: { permissions, scope: "turn" },
        denied: { permissions: {}, scope: "turn" },
      };
    }
    default:
      return undefined;
  }
}

/** The answer to a request that asks a person something else than a permission; undefined if there is none. */
export function answerToOther(method: string): JsonRecord | undefined {
  if (method === "item/tool/requestUserInput") return { answers: {} };
  if (method === "mcpServer/elicitation/request") return { action: "decline", content: null, _meta: null };
  return undefined;
}

function decision(tool: string, input: JsonRecord): Question {
  return { tool, input, allowed: { decision: "accept" }, denied: { decision: "decline" } };
}

function pick(record: JsonRecord, names: readonly string[]): JsonRecord {
  return withoutNulls(Object.fromEntries(names.map((name) => [name, record[name]])));
}

function withoutNulls(record: JsonRecord): JsonRecord {
  return Object.fromEntries(
    Object.entries(record).filter(([, value]) => value !== null && value !== undefined),
  );
}
