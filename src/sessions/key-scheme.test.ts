import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { identify, normaliseAgentId } from "./key-scheme.js";

describe("the scheme agent", () => {
  it.each([
    ["main", "agent:main:main", "main", "main"],
    ["", "agent:main:main", "main", "main"],
    ["AGENT:Main:Main", "agent:main:main", "main", "main"],
    ["agent:Ops_1:discord:direct:42", "agent:ops_1:discord:direct:42", "discord:direct:42", "ops_1"],
    ["global", "agent:main:global", "global", "main"],
    [
      "telegram:group:-100:topic:7",
      "agent:main:telegram:group:-100:topic:7",
      "telegram:group:-100:topic:7",
      "main",
    ],
    ["agent:main:subagent:3B2", "agent:main:subagent:3b2", "subagent:3b2", "main"],
    ["agent:main:openai-user:Alice", "agent:main:openai-user:alice", "openai-user:alice", "main"],
    ["agent:main:x:", "agent:main:x:", "x:", "main"],
    ["agent:main:signal:group:AbC=", "agent:main:signal:group:AbC=", "signal:group:AbC=", "main"],
    [
      "agent:main:SIGNAL:Group:AbC=:Thread:X",
      "agent:main:signal:group:AbC=:thread:x",
      "signal:group:AbC=:thread:x",
      "main",
    ],
    [
      "agent:main:matrix:channel:!AbC:Ex.Org:thread:$Ev",
      "agent:main:matrix:channel:!AbC:Ex.Org:thread:$Ev",
      "matrix:channel:!AbC:Ex.Org:thread:$Ev",
      "main",
    ],
    [
      "agent:main:Matrix:GROUP:!AbC:Ex.Org:THREAD:$Ev",
      "agent:main:matrix:group:!AbC:Ex.Org:thread:$Ev",
      "matrix:group:!AbC:Ex.Org:thread:$Ev",
      "main",
    ],
    ["agent:Ops Team:x", "agent:ops-team:x", "x", "ops-team"],
  ])("spells %j as %j", (given, storeKey, requestKey, agent) => {
    expect(identify("agent", given)).toEqual({ ok: true, identity: { storeKey, requestKey, agent } });
  });

  it.each(["agent:main:", "agent::main:x", "agent:main", "agent:", "agent: :x", "agent:main::x"])(
    "refuses %j",
    (given) => {
      expect(identify("agent", given).ok).toBe(false);
    },
  );

  it("spells what it has spelt the same", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (given) => {
        const once = identify("agent", given);
        if (once.ok) expect(identify("agent", once.identity.storeKey)).toEqual(once);
      }),
    );
  });
});

it("the scheme opaque takes every id as it is", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (given) => {
      expect(identify("opaque", given)).toEqual({
        ok: true,
        identity: { storeKey: given, requestKey: given, agent: "" },
      });
    }),
  );
});

it.each([
  ["", "main"],
  ["Main", "main"],
  ["Ops Team", "ops-team"],
  ["-lead-", "lead"],
  ["Ünï", "n"],
  ["_x", "_x"],
  ["a".repeat(70), "a".repeat(64)],
])("the agent id %j becomes %j", (given, agent) => {
  expect(normaliseAgentId(given)).toBe(agent);
});
