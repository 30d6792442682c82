import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { linearize, type Operation, type Specification } from "./linearizable.js";

/** A register that starts with 0; a write answers what was there before. */
type Input = { readonly write: number } | "read";

const register: Specification<number, Input, number> = {
  initial: 0,
  step(state, input, output) {
    if (output !== undefined && output !== state) return undefined;
    return input === "read" ? state : input.write;
  },
  identify: String,
};

const op = (called: number, returned: number, input: Input, output?: number): Operation<Input, number> =>
  output === undefined
    ? { client: 0, called, returned: Number.POSITIVE_INFINITY, input }
    : { client: 0, called, returned, input, output };
const lost = 0;

describe("accepts", () => {
  it.each([
    ["nothing", []],
    ["one after the other", [op(1, 2, { write: 1 }, 0), op(3, 4, "read", 1)]],
    ["an overlapping read that is before", [op(1, 4, { write: 1 }, 0), op(2, 3, "read", 0)]],
    ["an overlapping read that is after", [op(1, 4, { write: 1 }, 0), op(2, 3, "read", 1)]],
    [
      "an order that the calls do not show",
      [op(1, 9, { write: 1 }, 2), op(2, 9, { write: 2 }, 3), op(3, 9, { write: 3 }, 0)],
    ],
    [
      "a lost write that took effect late",
      [op(1, lost, { write: 1 }), op(2, 3, "read", 0), op(4, 5, "read", 1)],
    ],
    ["a lost write that never did", [op(1, lost, { write: 1 }), op(2, 3, "read", 0), op(4, 5, "read", 0)]],
  ])("%s", (_, history) => {
    expect(linearize(history, register)).toBeDefined();
  });
});

describe("rejects", () => {
  it.each([
    ["a read of what nobody wrote", [op(1, 2, "read", 7)]],
    ["a stale read", [op(1, 2, { write: 1 }, 0), op(3, 4, "read", 0)]],
    ["a lost update", [op(1, 4, { write: 1 }, 0), op(2, 3, { write: 2 }, 0)]],
    ["two reads in opposite orders", [op(1, 9, { write: 1 }, 0), op(2, 3, "read", 1), op(4, 5, "read", 0)]],
    ["a lost write that is undone", [op(1, lost, { write: 1 }), op(2, 3, "read", 1), op(4, 5, "read", 0)]],
    ["an effect before its call", [op(1, 2, "read", 1), op(3, lost, { write: 1 })]],
    [
      "a lost write that took effect twice",
      [op(1, lost, { write: 1 }), op(2, 3, { write: 2 }, 1), op(4, 5, { write: 3 }, 2), op(6, 7, "read", 1)],
    ],
  ])("%s", (_, history) => {
    expect(linearize(history, register)).toBeUndefined();
  });
});

it("agrees with the trying of every order", () => {
  const operation = fc
    .record({
      called: fc.nat(12),
      takes: fc.integer({ min: 1, max: 8 }),
      input: fc.oneof(fc.constant<Input>("read"), fc.record({ write: fc.integer({ min: 1, max: 2 }) })),
      output: fc.option(fc.nat(2), { nil: undefined, freq: 5 }),
    })
    .map(({ called, takes, input, output }) => op(called, called + takes, input, output));
  let right = 0;
  let wrong = 0;
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 5 }), (history) => {
      const found = linearize(history, register);
      const possible = subsetsWithAllAnswers(history).some((some) => permutations(some).some(isRight));
      expect(found !== undefined).toBe(possible);
      if (found !== undefined) expect(isRight(found)).toBe(true);
      if (possible) right += 1;
      else wrong += 1;
    }),
    { numRuns: 2000, seed: 1 },
  );
  expect(Math.min(right, wrong)).toBeGreaterThan(100);
});

function isRight(order: readonly Operation<Input, number>[]): boolean {
  let state = register.initial;
  for (const [index, operation] of order.entries()) {
    if (order.slice(index + 1).some((later) => later.returned < operation.called)) return false;
    const next = register.step(state, operation.input, operation.output);
    if (next === undefined) return false;
    state = next;
  }
  return true;
}

function subsetsWithAllAnswers<T extends { output?: unknown }>(history: readonly T[]): T[][] {
  let subsets: T[][] = [[]];
  for (const each of history) {
    const without = each.output === undefined ? subsets : [];
    subsets = [...without, ...subsets.map((some) => [...some, each])];
  }
  return subsets;
}

function permutations<T>(items: readonly T[]): T[][] {
  if (items.length === 0) return [[]];
  return items.flatMap((item, index) =>
    permutations([...items.slice(0, index), ...items.slice(index + 1)]).map((rest) => [item, ...rest]),
  );
}
