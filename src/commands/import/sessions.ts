/** What `session-broker export` wrote: a Session in proto3 JSON on each line. */
import { create, fromJsonString } from "@bufbuild/protobuf";
import {
  AliasKind,
  type Session,
  SessionKeySchema,
  SessionSchema,
} from "../../../gen/sessionbroker/v1/session_pb.js";
import { CommandError } from "../command-error.js";
import { readLines } from "./lines.js";
import type { Placement, SourceRow } from "./source.js";

/** Sessions name all answers they ever gave, so lines are longer than what is taken from them. */
const maxLineBytes = 16 * 1024 * 1024;

export async function* readSessions(file: string, placement: Placement): AsyncGenerator<SourceRow> {
  try {
    for await (const { number: row, bytes } of readLines(file, maxLineBytes)) {
      if (bytes === undefined) yield { row, problem: `the line has more than ${maxLineBytes} bytes` };
      else if (bytes.toString("latin1").trim() !== "") yield parseLine(row, bytes, placement);
    }
  } catch (error) {
    throw new CommandError(`${file} cannot be read: ${(error as Error).message}`);
  }
}

/** True for a JSON object with the key of a session, or with more lines behind it, or with the beginning of an export. */
export function looksLikeSession(line: string, moreLines: boolean): boolean {
  if (line.startsWith('{"key":{"scope":"')) return true;
  try {
    const { key = {} } = JSON.parse(line);
    if (!line.startsWith("{")) return false;
    return moreLines || typeof (key.externalId ?? key.external_id) === "string";
  } catch {
    return false;
  }
}

function parseLine(row: number, bytes: Buffer, placement: Placement): SourceRow {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return { row, problem: "the line is not UTF-8" };
  }
  try {
    return { row, session: placed(fromJsonString(SessionSchema, text), placement) };
  } catch (error) {
    return { row, problem: (error as Error).message };
  }
}

/** The session where the command line puts it, without the aliases that only a broker itself writes. */
function placed(session: Session, { scope, provider }: Placement): Session {
  const { key } = session;
  if (key !== undefined) {
    session.key = create(SessionKeySchema, {
      scope: scope ?? key.scope,
      externalId: key.externalId,
      provider: provider ?? key.provider,
    });
  }
  session.aliases = session.aliases.filter(
    ({ kind }) => kind !== AliasKind.RESPONSE && kind !== AliasKind.NATIVE,
  );
  return session;
}
