/**
 * TokenPak's `session_map.db`: a SQLite database with the table session_map.
 * It is read into memory and never written.
 */
import { readFile, stat } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import type { Database, SqlValue } from "sql.js";
import { SessionKeySchema, SessionSchema } from "../../../gen/sessionbroker/v1/session_pb.js";
import { CommandError } from "../command-error.js";
import type { Placement, SourceRow } from "./source.js";
import { secondsTime } from "./times.js";

const texts = ["scope", "external_id", "provider", "internal_id", "metadata"] as const;
const times = ["created_at", "last_used_at"] as const;
const columns = [...texts, ...times];
const maxRowBytes = 64 * 1024;

type Texts = Record<(typeof texts)[number], string>;

/** @throws CommandError if the file is no such database, or damaged */
export async function readTokenPak(file: string): Promise<(placement: Placement) => Generator<SourceRow>> {
  await refuseUnfinished(file);
  const { default: initSqlJs } = await import("sql.js");
  const { Database } = await initSqlJs();
  const bytes = await readFile(file).catch((error: Error) => {
    throw new CommandError(`${file} cannot be read: ${error.message}`);
  });
  const database = new Database(bytes);
  let decode: Decoder;
  try {
    decode = inspect(database);
  } catch (error) {
    database.close();
    throw unusable(file, error);
  }
  return function* (placement) {
    try {
      yield* readRows(database, decode, placement);
    } catch (error) {
      throw unusable(file, error);
    } finally {
      database.close();
    }
  };
}

/** What another process wrote last may lie in a file beside it, and would be missing without a word. */
async function refuseUnfinished(file: string): Promise<void> {
  for (const suffix of ["-wal", "-journal"]) {
    const size = await stat(`${file}${suffix}`).then(
      ({ size }) => size,
      () => 0,
    );
    if (size > 0) {
      throw new CommandError(
        `${file}${suffix} holds changes that are not in ${file} yet: stop TokenPak and run sqlite3 ${JSON.stringify(file)} "PRAGMA wal_checkpoint(TRUNCATE)"`,
      );
    }
  }
}

function unusable(file: string, error: unknown): CommandError {
  return error instanceof CommandError
    ? error
    : new CommandError(`${file} cannot be read as session_map.db: ${(error as Error).message}`);
}

type Decoder = (value: SqlValue | undefined) => string | undefined;

/** Makes sure that reading the table runs nothing but reads of a table. */
function inspect(database: Database): Decoder {
  database.run("PRAGMA trusted_schema = OFF; PRAGMA query_only = ON; PRAGMA cell_size_check = ON");
  const named = query(database, "SELECT type, sql FROM sqlite_schema WHERE lower(name) = 'session_map'");
  if (named.length === 0) throw new Error("it has no table session_map");
  const isTable = named.every(({ type, sql }) => type === "table" && /^CREATE\s+TABLE\b/i.test(String(sql)));
  if (!isTable) throw new Error("session_map is not a table");
  const known = query(database, "SELECT name, hidden FROM pragma_table_xinfo('session_map')");
  for (const column of columns) {
    const found = known.find(({ name }) => String(name).toLowerCase() === column);
    if (found === undefined) throw new Error(`session_map has no column ${column}`);
    if (found.hidden !== 0) throw new Error(`session_map.${column} is computed`);
  }
  const [check] = query(database, "PRAGMA quick_check(session_map)");
  if (check?.quick_check !== "ok") throw new Error(`it is damaged: ${check?.quick_check}`);
  const [encoding] = query(database, "PRAGMA encoding");
  const decoder = new TextDecoder(String(encoding?.encoding), { fatal: true, ignoreBOM: true });
  return (value) => {
    try {
      return value instanceof Uint8Array ? decoder.decode(value) : undefined;
    } catch {
      return undefined;
    }
  };
}

function* readRows(database: Database, decode: Decoder, placement: Placement): Generator<SourceRow> {
  const size = columns.map((column) => `ifnull(octet_length(${column}), 0)`).join(" + ");
  const fits = `(${size}) <= ${maxRowBytes}`;
  // Text as bytes: what is not well-formed, or holds a NUL, must be seen.
  const text = texts.map(
    (name) => `iif(${fits} AND typeof(${name}) = 'text', CAST(${name} AS BLOB), NULL) AS ${name}`,
  );
  const time = times.map((name) => `iif(typeof(${name}) IN ('text', 'blob'), '', ${name}) AS ${name}`);
  const statement = database.prepare(
    `SELECT ${fits} AS fits, ${[...text, ...time].join(", ")} FROM session_map`,
  );
  try {
    for (let row = 1; statement.step(); row++) yield toRow(row, statement.getAsObject(), decode, placement);
  } finally {
    statement.free();
  }
}

function toRow(
  row: number,
  values: Readonly<Record<string, SqlValue>>,
  decode: Decoder,
  placement: Placement,
): SourceRow {
  if (values.fits !== 1) return { row, problem: `the row has more than ${maxRowBytes} bytes` };
  const content = Object.fromEntries(texts.map((name) => [name, decode(values[name]) ?? ""])) as Texts;
  const missing = texts.find((name) => name !== "metadata" && content[name] === "");
  const key = create(SessionKeySchema, {
    scope: placement.scope ?? content.scope,
    externalId: content.external_id,
    provider: placement.provider ?? content.provider,
  });
  if (missing !== undefined) return { row, key, problem: `${missing}: it is missing or no text` };
  const created = secondsTime("created_at", values.created_at);
  if ("problem" in created) return { row, key, problem: created.problem };
  const used = secondsTime("last_used_at", values.last_used_at);
  if ("problem" in used) return { row, key, problem: used.problem };
  const session = create(SessionSchema, {
    key,
    // The id is the agent's own, and the only one there is: it names the session, and is resumed.
    sessionId: content.internal_id,
    nativeId: content.internal_id,
    labels: labelsOf(content.metadata),
    ...(created.at === undefined ? {} : { createdAt: created.at }),
    ...(used.at === undefined ? {} : { lastActivityAt: used.at }),
  });
  return { row, session };
}

/** The metadata as labels if it can be that as it stands, or else none. */
function labelsOf(metadata: string): Record<string, string> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(metadata);
  } catch {
    return {};
  }
  if (typeof parsed !== "object" || parsed === null || Array.isArray(parsed)) return {};
  const labels = Object.entries(parsed);
  const fit = labels.every(([name, value]) => isShort(name, 1, 64) && isShort(value, 0, 256));
  return fit && labels.length <= 32 ? Object.fromEntries(labels) : {};
}

function isShort(text: unknown, minBytes: number, maxBytes: number): boolean {
  if (typeof text !== "string") return false;
  const bytes = Buffer.byteLength(text);
  return bytes >= minBytes && bytes <= maxBytes;
}

function query(database: Database, sql: string): Record<string, SqlValue>[] {
  const statement = database.prepare(sql);
  const rows: Record<string, SqlValue>[] = [];
  try {
    while (statement.step()) rows.push(statement.getAsObject());
  } finally {
    statement.free();
  }
  return rows;
}
