/**
 * What the fuzzers share. A normal run takes seconds; `npm run fuzz` takes as
 * long as it is told.
 *
 * SESSION_BROKER_FUZZ_RUNS: how many inputs of each kind, in the place of the
 * ordinary number. SESSION_BROKER_FUZZ_SEED: what a failure printed as seed.
 */
import fc from "fast-check";

const { SESSION_BROKER_FUZZ_RUNS: wantedRuns, SESSION_BROKER_FUZZ_SEED: seed } = process.env;

export function parameters(ordinaryRuns: number): fc.Parameters<unknown> & { readonly numRuns: number } {
  return {
    numRuns: Number(wantedRuns ?? ordinaryRuns),
    ...(seed === undefined ? {} : { seed: Number(seed) }),
    endOnFailure: true,
    reporter: tell,
  };
}

/** Inputs are long: what matters is why it fails, and with which seed. */
function tell({ failed, seed: ran, counterexample, errorInstance }: fc.RunDetails<unknown>): void {
  if (!failed) return;
  const input = JSON.stringify(counterexample, (_, value) => textOf(value))?.slice(0, shownCharacters);
  throw new Error(`fails with SESSION_BROKER_FUZZ_SEED=${ran}, on ${input}`, { cause: errorInstance });
}

/** Bytes as text, as JSON hands them out. */
function textOf(value: unknown): unknown {
  const { type, data } = (value ?? {}) as { readonly type?: unknown; readonly data?: unknown };
  return type === "Buffer" && Array.isArray(data) ? Buffer.from(data).toString("latin1") : value;
}

const shownCharacters = 2_000;

/** For a number of inputs that each take up to so long. */
export function timeoutFor(ordinaryRuns: number, msEach: number): number {
  return 60_000 + parameters(ordinaryRuns).numRuns * msEach;
}

/** What parsers stumble over. */
const oddities = [
  "\0",
  "\r\n",
  "\r\n\r\n",
  "\n",
  '"',
  "{",
  "}",
  "[",
  "]",
  ":",
  ",",
  "\\u0000",
  "\\ud800",
  "\ud83d\ude00",
  "\ufeff",
  "1e999",
  "-0",
  "9007199254740993",
  "null",
  "true",
  "__proto__",
  "constructor",
  "%00",
  "../",
  "A".repeat(70_000),
  "[".repeat(20_000),
  '{"a":'.repeat(5_000),
  "&a",
  "*a",
  "!!js/function",
  "Content-Length: 5\r\n",
  "Transfer-Encoding: chunked\r\n",
  "data: ",
  "event: ",
  "0\r\n\r\n",
].map((text) => Buffer.from(text));

interface Change {
  readonly kind: "flip" | "cut" | "repeat" | "insert" | "odd" | "end";
  /** Where, as a part of the whole. */
  readonly at: number;
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly odd: number;
}

const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom("flip", "cut", "repeat", "insert", "odd", "end"),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  length: fc.integer({ min: 1, max: 64 }),
  bytes: fc.uint8Array({ minLength: 1, maxLength: 16 }),
  odd: fc.nat({ max: oddities.length - 1 }),
});

/** One of the samples with one to six changes, or bytes that are nothing. */
export function mutated(samples: readonly Buffer[]): fc.Arbitrary<Buffer> {
  const changed = fc
    .tuple(fc.constantFrom(...samples), fc.array(change, { minLength: 1, maxLength: 6 }))
    .map(([sample, changes]) => changes.reduce(apply, sample));
  const nothing = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
  return fc.oneof({ weight: 9, arbitrary: changed }, { weight: 1, arbitrary: nothing });
}

function apply(bytes: Buffer, { kind, at, length, bytes: more, odd }: Change): Buffer {
  const from = Math.floor(at * bytes.length);
  const [before, after] = [bytes.subarray(0, from), bytes.subarray(from)];
  switch (kind) {
    case "flip": {
      const flipped = Buffer.from(bytes);
      for (const [index, mask] of more.entries()) {
        if (from + index < flipped.length) flipped[from + index] = (flipped[from + index] ?? 0) ^ mask;
      }
      return flipped;
    }
    case "cut":
      return Buffer.concat([before, after.subarray(length)]);
    case "repeat":
      return Buffer.concat([before, after.subarray(0, length), after]);
    case "insert":
      return Buffer.concat([before, more, after]);
    case "odd":
      return Buffer.concat([before, oddities[odd] ?? Buffer.alloc(0), after]);
    case "end":
      return before;
  }
}
