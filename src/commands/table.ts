/** Tables and lists of facts for people. */
import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { printable } from "./printable.js";

export interface Column {
  readonly name: string;
  /** Numbers stand at the right. */
  readonly right?: boolean;
}

const shownCharacters = 48;

/** A line a row below the head; what is too wide for its column makes the column wider. */
export function tableLines(columns: readonly Column[], rows: readonly (readonly string[])[]): string[] {
  const cells = [columns.map(({ name }) => name), ...rows];
  const widths = columns.map((_, index) => Math.max(...cells.map((row) => row[index]?.length ?? 0)));
  return cells.map((row) =>
    columns
      .map(({ right = false }, index) => {
        const [cell = "", width = 0] = [row[index], widths[index]];
        return right ? cell.padStart(width) : cell.padEnd(width);
      })
      .join("  ")
      .trimEnd(),
  );
}

/** `name  value` on each line; facts without a value are left out. */
export function factLines(facts: readonly (readonly [name: string, value: string])[]): string[] {
  const known = facts.filter(([, value]) => value !== "");
  const width = Math.max(...known.map(([name]) => name.length));
  return known.map(([name, value]) => `${name.padEnd(width)}  ${printable(value)}`);
}

/** Text of others in a cell: printable, and cut short. */
export function cell(text: string): string {
  const shown = printable(text);
  return shown.length <= shownCharacters ? shown : `${shown.slice(0, shownCharacters - 1)}…`;
}

/** `2026-01-31 12:34:56`, UTC. */
export function timeText(time: Timestamp | undefined): string {
  return time === undefined ? "" : timestampDate(time).toISOString().slice(0, 19).replace("T", " ");
}

/** Name of a value of an enumeration, in lower case. */
export function enumText(names: Readonly<Record<number, string>>, value: number): string {
  return (names[value] ?? String(value)).toLowerCase();
}
