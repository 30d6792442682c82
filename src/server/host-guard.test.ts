import { describe, expect, it } from "vitest";
import type { RequestHead } from "./handler.js";
import { type HostFacts, judgeHost, judgeRequest, reachableAddresses } from "./host-guard.js";

const rules = { hosts: ["broker.lan", "192.0.2.7", "2001:db8::7"], origins: ["https://app.example.com"] };

function judge(facts: Partial<HostFacts> & { token?: boolean }) {
  const { token = false, ...given } = facts;
  const { allowed } = judgeHost(
    {
      authorities: ["localhost:8080"],
      origin: undefined,
      fromBrowser: given.origin !== undefined,
      isKnownCaller: () => token,
      ...given,
    },
    () => rules,
  );
  return allowed;
}

describe("judgeHost", () => {
  it.each([
    ["localhost", true],
    ["localhost:8080", true],
    ["LocalHost.:8080", true],
    ["127.0.0.1:1", true],
    ["[::1]:8080", true],
    ["[::1]", true],
    ["broker.lan:443", true],
    ["192.0.2.7", true],
    ["[2001:db8::7]:8080", true],
    ["evil.example", false],
    ["localhost.evil.example", false],
    ["127.0.0.1.evil.example", false],
    ["localhost@evil.example", false],
    ["evil.example:localhost", false],
    ["[::1", false],
    ["", false],
  ])("host %j without a token: %j", (authority, allowed) => {
    expect(judge({ authorities: [authority] })).toBe(allowed);
  });

  it("refuses a request without any host", () => {
    expect(judge({ authorities: [] })).toBe(false);
  });

  it("wants both Host and :authority to be known", () => {
    expect(judge({ authorities: ["localhost", "evil.example"] })).toBe(false);
  });

  it("does not look at the host of a program with a valid token", () => {
    expect(judge({ authorities: ["any.example"], token: true })).toBe(true);
  });

  it("looks at the host of a browser even with a valid token", () => {
    expect(judge({ authorities: ["any.example"], token: true, fromBrowser: true })).toBe(false);
    expect(judge({ token: true, fromBrowser: true })).toBe(true);
  });

  it.each([
    ["https://app.example.com", true],
    ["https://app.example.com:444", false],
    ["http://app.example.com", false],
    ["http://localhost:8080", false],
    ["null", false],
    ["", false],
  ])("origin %j: %j", (origin, allowed) => {
    expect(judge({ origin, token: true })).toBe(allowed);
  });

  it("never allows the origin null", () => {
    const facts = {
      authorities: ["localhost"],
      origin: "null",
      fromBrowser: true,
      isKnownCaller: () => true,
    };
    expect(judgeHost(facts, () => ({ hosts: [], origins: ["null"] })).allowed).toBe(false);
  });
});

describe("judgeRequest", () => {
  const judge = (headers: RequestHead["headers"], hosts = rules.hosts) =>
    judgeRequest(
      { headers } as RequestHead,
      () => ({ ...rules, hosts }),
      () => false,
    ).allowed;

  it.each([
    [{ host: "broker.lan:443" }, true],
    [{ ":authority": "broker.lan:443" }, true],
    [{ host: "evil.example" }, false],
    [{ ":authority": "evil.example" }, false],
    [{ host: "broker.lan", ":authority": "evil.example" }, false],
    [{ host: "evil.example", ":authority": "broker.lan" }, false],
    [{ host: "broker.lan", origin: "https://app.example.com" }, true],
    [{ host: "broker.lan", origin: "https://evil.example" }, false],
    [{ host: "evil.example", origin: "https://app.example.com" }, false],
    [{}, false],
  ])("%j: %j", (headers, allowed) => {
    expect(judge(headers)).toBe(allowed);
    expect(judge(headers)).toBe(allowed);
  });

  it("goes by the rules of the moment", () => {
    const hosts = (names: string[]) => judge({ host: "new.lan:7410" }, names);
    expect([hosts([]), hosts(["New.lan"]), hosts([])]).toEqual([false, true, false]);
  });

  it("knows each of many names", () => {
    for (let n = 0; n < 1_000; n++) {
      expect(judge({ host: `Host-${n}.lan:${n}` }, [`host-${n % 2 === 0 ? n : "none"}.lan`])).toBe(
        n % 2 === 0,
      );
    }
  });
});

describe("reachableAddresses", () => {
  it("is the address itself, or every address for a wildcard", () => {
    expect(reachableAddresses("192.0.2.7")).toEqual(["192.0.2.7"]);
    expect(reachableAddresses("0.0.0.0")).toContain("127.0.0.1");
  });
});
