/** `session-broker export`: the sessions of a running broker, one JSON object a line. */
import { randomUUID } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { type MessageInitShape, toJsonString } from "@bufbuild/protobuf";
import type { ExportSessionsRequestSchema } from "../../gen/sessionbroker/v1/admin_pb.js";
import { SessionSchema } from "../../gen/sessionbroker/v1/session_pb.js";
import { type BrokerAccess, brokerClient, explainCall } from "./broker-client.js";
import { CommandError } from "./command-error.js";
import { writeText } from "./output.js";
import { Progress } from "./progress.js";

export interface ExportOptions {
  readonly access: BrokerAccess;
  readonly filter: MessageInitShape<typeof ExportSessionsRequestSchema>;
  /** Default: standard output. */
  readonly output: string | undefined;
}

export async function exportSessions({ access, filter, output }: ExportOptions): Promise<void> {
  const progress = new Progress("exported");
  const lines = sessionLines(access, filter, progress);
  try {
    if (output === undefined) for await (const line of lines) await writeText(line);
    else await writeFile(output, lines);
  } finally {
    progress.end();
  }
}

async function* sessionLines(
  access: BrokerAccess,
  filter: ExportOptions["filter"],
  progress: Progress,
): AsyncGenerator<string> {
  try {
    for await (const { session } of brokerClient(access).exportSessions(filter)) {
      if (session === undefined) continue;
      yield `${toJsonString(SessionSchema, session)}\n`;
      progress.add();
    }
  } catch (error) {
    throw explainCall(error, access);
  }
}

/** The file is whole or, whatever happens, as it was before. */
async function writeFile(file: string, lines: AsyncIterable<string>): Promise<void> {
  const partial = `${file}.${randomUUID().slice(0, 8)}.partial`;
  try {
    const handle = await open(partial, "wx", 0o600);
    await pipeline(lines, handle.createWriteStream({ flush: true }));
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    if (error instanceof CommandError) throw error;
    throw new CommandError(`${file} cannot be written: ${(error as Error).message}`);
  }
}
