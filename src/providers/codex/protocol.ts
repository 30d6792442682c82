/** Messages of the app server: JSON-RPC 2.0 without its version, one on a line. */
import { asNumber, asRecord, asString, type JsonRecord, parseRecord } from "../json.js";

export type RequestId = number | string;

export type ServerMessage =
  | { readonly kind: "notification"; readonly method: string; readonly params: JsonRecord }
  /** The agent waits for an answer. */
  | {
      readonly kind: "request";
      readonly id: RequestId;
      readonly method: string;
      readonly params: JsonRecord;
    }
  | { readonly kind: "result"; readonly id: RequestId; readonly result: JsonRecord }
  | { readonly kind: "error"; readonly id: RequestId; readonly message: string };

/** The message in a line; undefined if the line is none. */
export function parseMessage(line: string): ServerMessage | undefined {
  const record = parseRecord(line);
  if (record === undefined) return undefined;
  const id = asNumber(record.id) ?? asString(record.id);
  const method = asString(record.method);
  const params = asRecord(record.params) ?? {};
  if (method !== undefined) {
    return id === undefined
      ? { kind: "notification", method, params }
      : { kind: "request", id, method, params };
  }
  if (id === undefined) return undefined;
  const error = asRecord(record.error);
  if (error === undefined) return { kind: "result", id, result: asRecord(record.result) ?? {} };
  return { kind: "error", id, message: asString(error.message) ?? "it gives no reason" };
}

export function callLine(id: number, method: string, params: JsonRecord): string {
  return line({ id, method, params });
}

export function noteLine(method: string): string {
  return line({ method });
}

export function resultLine(id: RequestId, result: JsonRecord): string {
  return line({ id, result });
}

export function unsupportedLine(id: RequestId): string {
  return line({ id, error: { code: -32601, message: "not supported" } });
}

function line(message: JsonRecord): string {
  return `${JSON.stringify({ jsonrpc: "2.0", ...message })}\n`;
}
