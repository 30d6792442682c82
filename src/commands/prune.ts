/** `session-broker prune`: clears away what is idle or over the cap. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import {
  type PruneRequestSchema,
  type PruneResponse,
  PruneResponse_Reason,
  PruneResponse_SkipReason,
  PruneResponseSchema,
} from "../../gen/sessionbroker/v1/admin_pb.js";
import { askBroker, type BrokerAccess } from "./broker-client.js";
import { jsonLine, writeLines } from "./output.js";
import { cell, enumText, tableLines, timeText } from "./table.js";

export interface PruneOptions {
  readonly access: BrokerAccess;
  readonly request: MessageInitShape<typeof PruneRequestSchema> & { readonly dryRun: boolean };
  readonly json: boolean;
}

export async function prune({ access, request, json }: PruneOptions): Promise<void> {
  const report = await askBroker(access, (client) => client.prune(request));
  await writeLines(json ? [jsonLine(PruneResponseSchema, report)] : pruneLines(report, request.dryRun));
}

const columns = [
  { name: "session" },
  { name: "scope" },
  { name: "external id" },
  { name: "provider" },
  { name: "last activity" },
  { name: "why" },
];

export function pruneLines(report: PruneResponse, dryRun: boolean): string[] {
  const { archived, purged, skippedTotal, rows, skipped } = report;
  const would = dryRun ? "would be " : "";
  const sum = `${archived} ${would}archived, ${purged} ${would}purged, ${skippedTotal} passed over`;
  const place = ({
    sessionId,
    key,
    lastActivityAt,
  }: PruneResponse["rows"][number] | PruneResponse["skipped"][number]) =>
    [sessionId, key?.scope ?? "", key?.externalId ?? "", key?.provider ?? ""]
      .map(cell)
      .concat(timeText(lastActivityAt));
  const table = [
    ...rows.map((row) => [...place(row), enumText(PruneResponse_Reason, row.reason)]),
    ...skipped.map((row) => [
      ...place(row),
      `passed over: ${enumText(PruneResponse_SkipReason, row.reason)}`,
    ]),
  ];
  const untold = archived + purged + skippedTotal - table.length;
  return [
    ...(table.length === 0 ? [] : [...tableLines(columns, table), ""]),
    ...(untold > 0 ? [`and ${untold} more`] : []),
    `${sum}.${report.more ? " There may be more: the limit was reached." : ""}`,
  ];
}
