import { create } from "@bufbuild/protobuf";
import { expect, it } from "vitest";
import { UsageRowSchema } from "../../gen/sessionbroker/v1/usage_pb.js";
import { usageTable } from "./usage.js";

const row = (scope: string, turns: number, inputTokens: bigint, costUsd?: number) =>
  create(UsageRowSchema, {
    day: "2026-01-31",
    scope,
    provider: "claude",
    turns,
    usage: { inputTokens, ...(costUsd === undefined ? {} : { costUsd }) },
  });

it("a table has a line for each row, and their sum", () => {
  expect(usageTable([row("acme", 2, 1_000n, 0.5), row("acme/long", 10, 5n)])).toEqual([
    "day         scope      provider  turns  input  cache read  cache write  output  reasoning     cost",
    "2026-01-31  acme       claude        2   1000           0            0       0          0  $0.5000",
    "2026-01-31  acme/long  claude       10      5           0            0       0          0        -",
    "total                               12   1005           0            0       0          0  $0.5000",
  ]);
});

it("one row needs no sum, and none is said in words", () => {
  expect(usageTable([row("acme", 1, 1n)])).toHaveLength(2);
  expect(usageTable([])).toEqual(["No turn has ended in these days."]);
});
