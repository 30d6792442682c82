/** What goes wrong, as Anthropic's clients are told it. docs/anthropic.md shows the table. */
import type { ServerResponse } from "node:http";
import type { ErrorResponse } from "@anthropic-ai/sdk/resources/shared";
import type { ApiError } from "../openai/errors.js";
import { errorHeaders } from "../openai/errors.js";
import { sendJson } from "../openai/json.js";

/** `error.type` by HTTP status; the status is the same for every API. */
export const anthropicTypes = {
  400: "invalid_request_error",
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  409: "conflict_error",
  413: "request_too_large",
  429: "rate_limit_error",
  500: "api_error",
  502: "api_error",
  503: "overloaded_error",
  504: "timeout_error",
} as const;

type AnthropicType = (typeof anthropicTypes)[keyof typeof anthropicTypes];

/** A status that is not in the table is one of the client's or one of the server's. */
export function anthropicType(status: number): AnthropicType {
  const known: Readonly<Record<number, AnthropicType>> = anthropicTypes;
  return known[status] ?? (status < 500 ? "invalid_request_error" : "api_error");
}

/** The SDK's types know no request_too_large. */
type ErrorBody = Omit<ErrorResponse, "error"> & {
  readonly error: { readonly type: AnthropicType; readonly message: string };
};

/** The message begins with the field at fault. */
export function anthropicError({ message, init }: ApiError): ErrorBody {
  const { param, status } = init;
  const named = param === undefined || message.includes(param) ? message : `${param}: ${message}`;
  return { type: "error", error: { type: anthropicType(status), message: named }, request_id: null };
}

export function sendAnthropicError(
  res: ServerResponse,
  error: ApiError,
  headers: Readonly<Record<string, string>> = {},
): void {
  sendJson(res, error.init.status, anthropicError(error), { ...headers, ...errorHeaders(error) });
}
