import { createContextKey, createContextValues } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { CallValues } from "./call-values.js";

const [one, other] = [createContextKey<string | undefined>("default"), createContextKey<number>(0)];

it("holds what Connect's own values hold", () => {
  for (const values of [new CallValues(), createContextValues()]) {
    expect([values.get(one), values.get(other)]).toEqual(["default", 0]);
    values.set(one, "a").set(other, 1).set(one, "b");
    expect([values.get(one), values.get(other)]).toEqual(["b", 1]);
    values.set(one, undefined);
    expect([values.get(one), values.get(other)]).toEqual([undefined, 1]);
    values.delete(one).delete(one);
    expect([values.get(one), values.get(other)]).toEqual(["default", 1]);
  }
});
