import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { errorTable } from "../../errors.js";
import { ApiError, cancelledTable, connectCodeTable, turnErrorTable } from "../openai/errors.js";
import { anthropicError, anthropicType, anthropicTypes } from "./errors.js";

const page = readFileSync(new URL("../../../docs/anthropic.md", import.meta.url), "utf8");

it("docs/anthropic.md shows the table", () => {
  const rows = [...page.matchAll(/^\| (\d{3}) \| `(\w+)` \|/gm)].map(([, status, type]) => [
    Number(status),
    type,
  ]);
  expect(Object.fromEntries(rows)).toEqual(anthropicTypes);
});

it("every status that the adapter answers has a type", () => {
  const tables = [errorTable, turnErrorTable, cancelledTable, connectCodeTable];
  for (const { http } of tables.flatMap((table) => Object.values<{ readonly http: number }>(table))) {
    expect(anthropicType(http)).toBe(
      (anthropicTypes as Readonly<Record<number, string>>)[http] ??
        (http < 500 ? "invalid_request_error" : "api_error"),
    );
  }
});

it.each([
  ["tools is not empty", "tools is not empty"],
  ["it is not valid", "tools: it is not valid"],
])("%j is told as %j, with the field", (message, told) => {
  const init = {
    status: 400,
    type: "invalid_request_error",
    param: "tools",
    code: "invalid_value",
    retryable: false,
  };
  expect(anthropicError(new ApiError(message, init)).error.message).toBe(told);
});
