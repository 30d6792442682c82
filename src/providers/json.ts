/** JSON from an agent, read leniently: a field that is missing or odd is absent. */

export type JsonRecord = Readonly<Record<string, unknown>>;

/** The record in a line; undefined if the line is none. */
export function parseRecord(line: string): JsonRecord | undefined {
  if (!line.startsWith("{")) return undefined;
  try {
    return asRecord(JSON.parse(line));
  } catch {
    return undefined;
  }
}

export function asRecord(value: unknown): JsonRecord | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as JsonRecord)
    : undefined;
}

export function asList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}

export function asString(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}

export function asNumber(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
