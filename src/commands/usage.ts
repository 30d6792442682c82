/** `session-broker usage`: tokens and cost by day, scope and provider. */
import { type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type ListUsageRequestSchema,
  type UsageRow,
  UsageRowSchema,
} from "../../gen/sessionbroker/v1/usage_pb.js";
import { type BrokerAccess, brokerClient, explainCall } from "./broker-client.js";
import { printable } from "./printable.js";
import { tableLines } from "./table.js";

export interface UsageOptions {
  readonly access: BrokerAccess;
  readonly filter: { readonly scope: string; readonly provider: string };
  /** Start of the first and of the last day. Default: those of the broker. */
  readonly since: number | undefined;
  readonly until: number | undefined;
  /** One JSON object a line instead of a table. */
  readonly json: boolean;
}

export async function showUsage({ access, filter, since, until, json }: UsageOptions): Promise<void> {
  const rows = await allRows(access, {
    ...filter,
    pageSize: 1000,
    ...(since === undefined ? {} : { since: timestampFromMs(since) }),
    ...(until === undefined ? {} : { until: timestampFromMs(until) }),
  });
  const lines = json
    ? rows.map((row) => toJsonString(UsageRowSchema, row, { alwaysEmitImplicit: true }))
    : usageTable(rows);
  process.stdout.write(lines.map((line) => `${line}\n`).join(""));
}

async function allRows(
  access: BrokerAccess,
  request: MessageInitShape<typeof ListUsageRequestSchema>,
): Promise<UsageRow[]> {
  const client = brokerClient(access);
  const rows: UsageRow[] = [];
  try {
    for (let pageToken: string | undefined; pageToken !== ""; ) {
      const page = await client.listUsage({ ...request, pageToken: pageToken ?? "" });
      rows.push(...page.rows);
      pageToken = page.nextPageToken;
    }
  } catch (error) {
    throw explainCall(error, access);
  }
  return rows;
}

const words = ["day", "scope", "provider"];
const numbers = ["turns", "input", "cache read", "cache write", "output", "reasoning", "cost"];
const columns = [...words.map((name) => ({ name })), ...numbers.map((name) => ({ name, right: true }))];

/** A line a row, and the sum below if there are several. */
export function usageTable(rows: readonly UsageRow[]): string[] {
  if (rows.length === 0) return ["No turn has ended in these days."];
  const cells = rows.map(cellsOf);
  if (rows.length > 1) cells.push(["total", "", "", ...numbersOf(rows)]);
  return tableLines(columns, cells);
}

function cellsOf(row: UsageRow): string[] {
  return [row.day, printable(row.scope), printable(row.provider), ...numbersOf([row])];
}

function numbersOf(rows: readonly UsageRow[]): string[] {
  const sum = (of: (row: UsageRow) => bigint | undefined) =>
    String(rows.reduce((total, row) => total + (of(row) ?? 0n), 0n));
  const costs = rows.flatMap(({ usage }) => usage?.costUsd ?? []);
  return [
    sum(({ turns }) => BigInt(turns)),
    sum(({ usage }) => usage?.inputTokens),
    sum(({ usage }) => usage?.cacheReadTokens),
    sum(({ usage }) => usage?.cacheWriteTokens),
    sum(({ usage }) => usage?.outputTokens),
    sum(({ usage }) => usage?.reasoningTokens),
    costs.length === 0 ? "-" : `$${costs.reduce((total, cost) => total + cost, 0).toFixed(4)}`,
  ];
}
