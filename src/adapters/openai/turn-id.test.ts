import { expect, it } from "vitest";
import { turnIdOf } from "./turn-id.js";

it("takes a UUID as it is, in lower case", () => {
  expect(turnIdOf("0B8DC3E8-3D6D-4C5D-8F0E-3B8E5F1B2A10", "acme")).toBe(
    "0b8dc3e8-3d6d-4c5d-8f0e-3b8e5f1b2a10",
  );
});

it("makes a UUIDv5 of scope and any other key", () => {
  expect(turnIdOf("order 66 ü", "acme/history")).toBe("3854cd10-310a-5dc4-aa99-77b1273cd92c");
  expect(turnIdOf("order 66 ü", "acme")).not.toBe(turnIdOf("order 66 ü", "acme/history"));
});
