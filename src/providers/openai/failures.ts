/** What a refusal of the service means. Judged by its status and its error, never by what a model has said. */
import type { IncomingHttpHeaders } from "node:http";
import { type Failure, failureOf } from "../ending.js";
import { asNumber, asObject, asString, type Json, parseObject } from "./json.js";

export interface ServiceError {
  /** Absent for an error in a stream that had begun. */
  readonly status?: number;
  readonly code?: string;
  readonly type?: string;
  readonly message: string;
  readonly retryAfterMs?: number;
}

const longestMessage = 2_000;
const overflowCodes = ["context_length_exceeded", "exceed_context_size_error"];
/** Services without a code for it say it in words. */
const overflowWords = /maximum context length|context (?:length|window|size)|prompt is too long/i;

export function classifyError(error: ServiceError): Failure {
  const { status = statusOf(error) } = error;
  const codes = [error.code, error.type].filter((code) => code !== undefined);
  const has = (...known: string[]) => codes.some((code) => known.includes(code));
  const message = `${error.status === undefined ? "The model's service failed" : `The model's service answered ${error.status}`}: ${error.message || codes.join(" ") || "no reason given"}`;
  const retryAfter = error.retryAfterMs === undefined ? {} : { retryAfterMs: error.retryAfterMs };
  if (has(...overflowCodes) || status === 413 || (status === 400 && overflowWords.test(error.message))) {
    return failureOf("CONTEXT_OVERFLOW", message);
  }
  if (status === 401 || status === 403) return failureOf("AUTH", message);
  if (status === 429) {
    // A bill that is not paid is not waited for.
    const retryable = !has("insufficient_quota");
    return failureOf("RATE_LIMITED", message, { retryable, ...retryAfter });
  }
  if (status === 503 || status === 529)
    return failureOf("OVERLOADED", message, { retryable: true, ...retryAfter });
  if (status >= 300 && status < 400) {
    const reason = `The model's service redirects (${status}), which is not followed; base_url has to name where it is.`;
    return failureOf("UNAVAILABLE", reason, { modelNotAsked: true });
  }
  if (status >= 500 || status === 408)
    return failureOf("PROVIDER_ERROR", message, { retryable: true, ...retryAfter });
  return failureOf("INVALID_REQUEST", message);
}

/** An error in a stream has a code in place of a status. */
function statusOf({ code = "", type = "" }: ServiceError): number {
  for (const word of [code, type]) {
    if (/^\d{3}$/.test(word)) return Number(word);
    if (/rate_limit|insufficient_quota|too_many_requests/.test(word)) return 429;
    if (/overloaded|slow_down|unavailable/.test(word)) return 503;
    if (/invalid_api_key|authentication|permission/.test(word)) return 401;
    if (/^invalid_|^image_|_too_large$|content_policy/.test(word)) return 400;
  }
  return 500;
}

/** The error of a response that is no stream. */
export function errorOf(
  status: number,
  headers: IncomingHttpHeaders,
  body: string,
  nowMs: number,
): ServiceError {
  const parsed = parseObject(body);
  const found = parsed === undefined ? undefined : errorIn(parsed);
  const retryAfterMs = retryAfterOf(headers, nowMs);
  return {
    status,
    message: body.trim().slice(0, longestMessage),
    ...found,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

/** What stands in `error`, or beside it, in the shapes that services give it. */
export function errorIn(record: Json): Omit<ServiceError, "status"> | undefined {
  const error = asObject(record.error) ?? (record.error === undefined ? record : undefined);
  if (error === undefined) {
    const text = asString(record.error);
    return text === undefined ? undefined : { message: text.slice(0, longestMessage) };
  }
  const message = asString(error.message) ?? asString(error.detail);
  const code = asString(error.code) ?? asNumber(error.code)?.toString();
  const type = asString(error.type);
  if (message === undefined && code === undefined) return undefined;
  return {
    message: (message ?? "").slice(0, longestMessage),
    ...(code === undefined ? {} : { code }),
    ...(type === undefined ? {} : { type }),
  };
}

/** https://www.rfc-editor.org/rfc/rfc9110#field.retry-after; services also say it in milliseconds. */
export function retryAfterOf(headers: IncomingHttpHeaders, nowMs: number): number | undefined {
  const exact = Number(headers["retry-after-ms"] ?? Number.NaN);
  if (exact >= 0) return Math.ceil(exact);
  const text = headers["retry-after"]?.trim() ?? "";
  if (/^\d+(\.\d+)?$/.test(text)) return Math.ceil(Number(text) * 1_000);
  const at = /^[A-Z][a-z]{2}/.test(text) ? Date.parse(text) : Number.NaN;
  return Number.isNaN(at) ? undefined : Math.max(0, at - nowMs);
}
