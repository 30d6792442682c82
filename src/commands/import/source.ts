/** Files to import, whatever their format, as rows of the contract. */
import { type FileHandle, open } from "node:fs/promises";
import type { Session, SessionKey } from "../../../gen/sessionbroker/v1/session_pb.js";
import { CommandError } from "../command-error.js";
import type { Format } from "./formats.js";
import { readOpenClaw } from "./openclaw.js";
import { looksLikeSession, readSessions } from "./sessions.js";
import { readTokenPak } from "./tokenpak.js";

/** A row of a file, with its number there: line, or place, from 1. */
export type SourceRow =
  | { readonly row: number; readonly session: Session }
  | { readonly row: number; readonly key?: SessionKey; readonly problem: string };

/** What the command line says about rows; it goes before what the file says. */
export interface Placement {
  readonly scope?: string | undefined;
  readonly provider?: string | undefined;
}

/** What a file is read with where it says nothing itself. */
export interface Defaults {
  readonly provider: string;
}

export interface Source {
  readonly format: Format;
  rows(placement: Placement, defaults: Defaults): AsyncIterable<SourceRow> | Iterable<SourceRow>;
}

/** Longest part of a file that is looked at to tell its format. */
const headBytes = 1024 * 1024;
const sqliteMagic = "SQLite format 3\0";

/** @throws CommandError if the file cannot be read, or its format cannot be told */
export async function openSource(file: string, format: Format | "auto"): Promise<Source> {
  const known = format === "auto" ? detect(await readHead(file)) : format;
  switch (known) {
    case "sessions":
      return { format: known, rows: (placement) => readSessions(file, placement) };
    case "tokenpak":
      return { format: known, rows: await readTokenPak(file) };
    case "openclaw":
      return { format: known, rows: await readOpenClaw(file) };
    case undefined:
      throw new CommandError(
        `${file} is neither an export of session-broker, nor TokenPak's session_map.db, nor OpenClaw's sessions.json; say which with --format`,
      );
  }
}

function detect(head: string): Format | undefined {
  if (head.startsWith(sqliteMagic)) return "tokenpak";
  const text = head.trim();
  const [firstLine = "", ...more] = text.split("\n", 2);
  if (text === "" || looksLikeSession(firstLine, more.length > 0)) return "sessions";
  return text.startsWith("{") ? "openclaw" : undefined;
}

async function readHead(file: string): Promise<string> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, "r");
    const { bytesRead, buffer } = await handle.read(Buffer.alloc(headBytes), 0, headBytes, 0);
    return buffer.toString("utf8", 0, bytesRead);
  } catch (error) {
    throw new CommandError(`${file} cannot be read: ${(error as Error).message}`);
  } finally {
    await handle?.close();
  }
}
