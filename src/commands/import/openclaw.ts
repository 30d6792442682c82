/** OpenClaw's `sessions.json`: an object of store key → `{sessionId, updatedAt, sessionStartedAt, …}`. */
import { readFile } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import { SessionKeySchema, SessionSchema } from "../../../gen/sessionbroker/v1/session_pb.js";
import { CommandError } from "../command-error.js";
import type { Defaults, Placement, SourceRow } from "./source.js";
import { millisecondsTime } from "./times.js";

const defaultScope = "openclaw";

/** @throws CommandError if the file is no such object */
export async function readOpenClaw(
  file: string,
): Promise<(placement: Placement, defaults: Defaults) => SourceRow[]> {
  const entries = parse(file, await readFile(file).catch(unreadable(file)));
  return (placement, defaults) => {
    const place = {
      scope: placement.scope ?? defaultScope,
      provider: placement.provider ?? defaults.provider,
    };
    return freshestFirst(entries).map(({ storeKey, entry, row }) => toRow(row, storeKey, entry, place));
  };
}

interface Entry {
  readonly row: number;
  readonly storeKey: string;
  readonly entry: unknown;
}

function parse(file: string, bytes: Buffer): Entry[] {
  let document: unknown;
  try {
    document = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (error) {
    throw new CommandError(`${file} is not JSON: ${(error as Error).message}`);
  }
  if (!isObject(document)) throw new CommandError(`${file} is not an object of store keys and sessions`);
  return Object.entries(document).map(([storeKey, entry], index) => ({ row: index + 1, storeKey, entry }));
}

/** So that of several spellings of a key the freshest is there first, in a repeated import as well. */
function freshestFirst(entries: readonly Entry[]): Entry[] {
  const age = ({ entry }: Entry) =>
    isObject(entry) && typeof entry.updatedAt === "number" ? entry.updatedAt : 0;
  return [...entries].sort((a, b) => age(b) - age(a));
}

function toRow(
  row: number,
  storeKey: string,
  entry: unknown,
  place: { readonly scope: string; readonly provider: string },
): SourceRow {
  const key = create(SessionKeySchema, { ...place, externalId: storeKey });
  if (!isObject(entry)) return { row, key, problem: "the session is not an object" };
  const { sessionId } = entry;
  if (typeof sessionId !== "string" || sessionId === "") {
    return { row, key, problem: "sessionId: it is missing or no text" };
  }
  const updated = millisecondsTime("updatedAt", entry.updatedAt);
  if ("problem" in updated) return { row, key, problem: updated.problem };
  const started = millisecondsTime("sessionStartedAt", entry.sessionStartedAt);
  if ("problem" in started) return { row, key, problem: started.problem };
  const session = create(SessionSchema, {
    key,
    sessionId,
    ...(updated.at === undefined ? {} : { lastActivityAt: updated.at }),
    ...(started.at === undefined ? {} : { startedAt: started.at }),
  });
  return { row, session };
}

function unreadable(file: string): (error: Error) => never {
  return (error) => {
    throw new CommandError(`${file} cannot be read: ${error.message}`);
  };
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
