/** `session-broker import`: rows of a file into a running broker. */
import { create, toBinary, toJsonString } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";
import {
  type ImportSessionsRequest,
  ImportSessionsRequestSchema,
  type ImportSessionsResponse,
  type ImportSessionsResponse_Row,
  ImportSessionsResponse_RowSchema,
  ImportSessionsResponseSchema,
  ImportSessionsResponse_Result as Result,
} from "../../gen/sessionbroker/v1/admin_pb.js";
import type { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { SessionSchema } from "../../gen/sessionbroker/v1/session_pb.js";
import { type BrokerAccess, BrokerUnreachable, brokerClient, explainCall } from "./broker-client.js";
import { CommandError } from "./command-error.js";
import type { Format } from "./import/formats.js";
import { openSource, type Placement, type Source, type SourceRow } from "./import/source.js";
import { printable } from "./printable.js";
import { Progress } from "./progress.js";

export interface ImportOptions {
  readonly access: BrokerAccess;
  readonly file: string;
  readonly format: Format | "auto";
  readonly placement: Placement;
  readonly json: boolean;
}

/** More than the rules allow a session to have, and little enough for any message limit. */
const maxRowBytes = 64 * 1024;
/** As many as the broker reports. */
const reportedRows = 10_000;
/** A longer external id is wrong, and nothing for a report. */
const shownKey = 1024;

/** Resolves with the exit code: 0 if every row was created or kept, 1 otherwise. */
export async function importSessions({
  access,
  file,
  format,
  placement,
  json,
}: ImportOptions): Promise<number> {
  const source = await openSource(file, format);
  const progress = new Progress("read");
  let report: ImportSessionsResponse;
  try {
    report = await upload(brokerClient(access), source, placement, progress);
  } catch (error) {
    const explained = explainCall(error, access);
    if (!(explained instanceof BrokerUnreachable) || progress.rows === 0) throw explained;
    throw new CommandError(`${explained.message}; repeating the import goes on where it stopped`);
  } finally {
    progress.end();
  }
  process.stdout.write(json ? jsonReport(report) : textReport(report));
  return report.conflicting + report.rejected === 0 ? 0 : 1;
}

async function upload(
  client: Client<typeof SessionBroker>,
  source: Source,
  placement: Placement,
  progress: Progress,
): Promise<ImportSessionsResponse> {
  const { providers } = await client.getServerInfo({});
  const refused: ImportSessionsResponse_Row[] = [];
  let refusedRows = 0;
  // A file that turns out to be damaged ends the stream, and is the reason to be told.
  let failure: unknown;
  async function* requests(): AsyncGenerator<ImportSessionsRequest> {
    try {
      for await (const row of source.rows(placement, { provider: providers[0]?.id ?? "" })) {
        progress.add();
        const taken = checked(row);
        if ("session" in taken) {
          yield create(ImportSessionsRequestSchema, taken);
          continue;
        }
        refusedRows += 1;
        if (refused.length < reportedRows) refused.push(refusal(taken));
      }
    } catch (error) {
      failure = error;
      throw error;
    }
  }
  const report = await client.importSessions(requests()).catch((error: unknown) => {
    throw failure ?? error;
  });
  report.rejected += refusedRows;
  report.rows = [...report.rows, ...refused].sort((a, b) => a.row - b.row).slice(0, reportedRows);
  return report;
}

function checked(row: SourceRow): SourceRow {
  if ("problem" in row || toBinary(SessionSchema, row.session).length <= maxRowBytes) return row;
  return { row: row.row, problem: `the session has more than ${maxRowBytes} bytes` };
}

function refusal({ row, key, problem }: Extract<SourceRow, { problem: string }>): ImportSessionsResponse_Row {
  return create(ImportSessionsResponse_RowSchema, {
    row,
    result: Result.REJECTED,
    message: problem,
    ...(key === undefined || key.externalId.length > shownKey ? {} : { key }),
  });
}

function jsonReport(report: ImportSessionsResponse): string {
  return `${toJsonString(ImportSessionsResponseSchema, report, { alwaysEmitImplicit: true })}\n`;
}

function textReport(report: ImportSessionsResponse): string {
  const { created, kept, conflicting, rejected, rows } = report;
  const lines = [
    `created ${created}, kept ${kept}, conflicting ${conflicting}, rejected ${rejected}`,
    ...rows.map(rowLine),
  ];
  const untold = rows.length < reportedRows ? 0 : conflicting + rejected - rows.length;
  if (untold > 0) lines.push(`and at least ${untold} rows more`);
  return `${lines.join("\n")}\n`;
}

function rowLine({ row, key, result, message }: ImportSessionsResponse_Row): string {
  const named = key === undefined ? "" : ` ${key.scope} ${JSON.stringify(key.externalId)} ${key.provider}`;
  return printable(`row ${row} ${Result[result].toLowerCase()}${named}: ${message}`);
}
