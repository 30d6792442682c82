import { describe, expect, it } from "vitest";
import { Role } from "../../gen/sessionbroker/v1/options_pb.js";
import { baseScopeOf, type Caller, requireScope, roleIncludes, whereOf } from "./caller.js";

const caller = (...scopes: string[]): Caller => ({
  name: "c",
  role: Role.READ,
  scopes,
  baseScope: baseScopeOf(scopes),
  shared: false,
  origins: [],
});

describe("a caller's scopes", () => {
  it.each([
    [["*"], "acme", true],
    [["acme"], "acme", true],
    [["acme"], "acme/telegram", false],
    [["acme/*"], "acme/telegram", true],
    [["acme/*"], "acme/telegram/eu", true],
    [["acme/*"], "acme", false],
    [["acme/*"], "acmeevil/x", false],
    [[], "acme", false],
  ])("%j may see %s: %s", (scopes, scope, allowed) => {
    const ask = () => requireScope(caller(...scopes), scope);
    if (allowed) expect(ask).not.toThrow();
    else expect(ask).toThrow("scope");
  });

  it.each([
    [["acme/*"], "acme/*", "acme/*"],
    [["acme/*"], "acme/eu/*", "acme/eu/*"],
    [["*"], "*", "*"],
    [["*"], "acme/*", "acme/*"],
    [["acme/*"], "acme/eu", "acme/eu"],
  ])("%j narrowed to %s looks in %s", (scopes, wanted, expected) => {
    expect(whereOf(caller(...scopes), wanted).scopes).toEqual([expected]);
  });

  it.each([
    [["acme/*"], "*"],
    [["acme/*"], "ac/*"],
    [["acme"], "acme/*"],
    [["acme/*"], "other"],
  ])("%j cannot be narrowed to %s", (scopes, wanted) => {
    expect(() => whereOf(caller(...scopes), wanted)).toThrow("scope");
  });

  it.each([
    [["*"], ""],
    [["acme", "acme/*"], "acme"],
    [["acme/*"], "acme"],
    [["acme", "other"], ""],
  ])("%j have the base %j", (scopes, base) => {
    expect(baseScopeOf(scopes)).toBe(base);
  });
});

it("roles include the ones below them, and APPROVE reads", () => {
  const held = [Role.READ, Role.DISPATCH, Role.ADMIN, Role.APPROVE];
  const table = held.map((role) => held.filter((needed) => roleIncludes(role, needed)));
  expect(table).toEqual([
    [Role.READ],
    [Role.READ, Role.DISPATCH, Role.APPROVE],
    [Role.READ, Role.DISPATCH, Role.ADMIN, Role.APPROVE],
    [Role.READ, Role.APPROVE],
  ]);
});
