/**
 * A damaged store is never overwritten and never deleted: it is put into a
 * directory of its own in the data directory, with a note of what was wrong.
 *
 *     <data>/store ──▶ <data>/damaged-<time>/store, damage.json
 *
 * What lies there is told until the operator takes it away.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { dirname, join } from "node:path";
import { syncDirectory, writeDurably } from "./marker.js";

export interface SetAside {
  /** The directory. */
  readonly path: string;
  readonly atMs: number;
  /** What was wrong. */
  readonly what: string;
  /** What the broker went on with. */
  readonly successor: "empty" | "restored";
}

const namePattern = /^damaged-\d{8}T\d{9}Z$/;
const noteName = "damage.json";

export function setAside(store: string, note: Omit<SetAside, "path">): SetAside {
  const data = dirname(store);
  const time = new Date(note.atMs).toISOString().replaceAll(/[-:.]/g, "");
  const path = join(data, `damaged-${time}`);
  mkdirSync(path, { mode: 0o700 });
  writeDurably(join(path, noteName), note);
  renameSync(store, join(path, "store"));
  syncDirectory(path);
  syncDirectory(data);
  return { ...note, path };
}

/** What lies set aside in a data directory, the oldest first. */
export function listSetAside(data: string): readonly SetAside[] {
  if (!existsSync(data)) return [];
  return readdirSync(data)
    .filter((name) => namePattern.test(name) && existsSync(join(data, name, "store")))
    .sort()
    .map((name) => ({ path: join(data, name), ...readNote(join(data, name, noteName)) }));
}

function readNote(file: string): Omit<SetAside, "path"> {
  try {
    const { atMs, what, successor } = JSON.parse(readFileSync(file, "utf8")) as Partial<SetAside>;
    return { atMs: atMs ?? 0, what: what ?? "", successor: successor === "restored" ? "restored" : "empty" };
  } catch {
    return { atMs: 0, what: "", successor: "empty" };
  }
}
