/** Versions of the CLI, as it writes them. */

/** The oldest version whose results are known to name the lines that they answer. */
export const namesLinesSince = [2, 1, 329] as const;

/** Whether a version such as `2.1.329 (Claude Code)` is this one or newer; false if it is unknown. */
export function isAtLeast(version: string | undefined, oldest: readonly [number, number, number]): boolean {
  const parts = /^(\d+)\.(\d+)\.(\d+)/
    .exec(version ?? "")
    ?.slice(1)
    .map(Number);
  if (parts === undefined) return false;
  const at = oldest.findIndex((number, index) => parts[index] !== number);
  return at === -1 || (parts[at] ?? 0) > (oldest[at] ?? 0);
}
