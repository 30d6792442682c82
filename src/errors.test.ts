import { Code } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { errorTable } from "./errors.js";

/** `npx vitest run src/errors.test.ts -u` writes the page anew. */
it("docs/errors.md shows the table", async () => {
  const rows = Object.entries(errorTable).map(
    ([reason, { code, http, openaiType, retryable, when }]) =>
      `| \`${reason}\` | \`${snake(Code[code])}\` | ${http} | \`${openaiType}\` | ${retryable ? "yes" : "no"} | ${when} |`,
  );
  const page = [
    "# Errors",
    "",
    "Before a turn is accepted, a problem is an error of the call. Its `google.rpc.ErrorInfo` has one of these reasons and the domain `sessionbroker.v1`; where waiting helps, a `google.rpc.RetryInfo` says how long. The adapters answer the HTTP status and the `error.type` beside it. After a turn was accepted, what goes wrong is an event of its stream.",
    "",
    "| reason | Connect code | HTTP | `error.type` | retry | when |",
    "|---|---|---|---|---|---|",
    ...rows,
    "",
  ].join("\n");
  await expect(page).toMatchFileSnapshot("../docs/errors.md");
});

function snake(name: string | undefined): string {
  return (name ?? "").replace(/(?<=[a-z])[A-Z]/g, (letter) => `_${letter}`).toLowerCase();
}
