/**
 * True of a value that surely keeps its rules. False of one that breaks them,
 * and of one that the check cannot judge.
 */
export type Check<T = unknown> = (value: T) => boolean;

export const sure: Check = () => true;

/** For what is left to protovalidate. */
export const unsure: Check = () => false;

/** Undefined if there is nothing to check. */
export function every<T>(checks: readonly Check<T>[]): Check<T> | undefined {
  const [only] = checks;
  if (checks.length < 2) return only;
  return (value) => {
    for (const check of checks) if (!check(value)) return false;
    return true;
  };
}
