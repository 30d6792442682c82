import { describe, expect, it } from "vitest";
import { type OriginRules, resolveOrigin } from "./origin.js";
import { originTable } from "./origin-table.js";

function resolve(headers: Readonly<Record<string, string>>, baseScope = "", modelAgent?: string) {
  return resolveWith({}, headers, {}, { baseScope, modelAgent });
}

function resolveWith(
  body: Readonly<Record<string, unknown>>,
  headers: Readonly<Record<string, string>> = {},
  rules: Partial<OriginRules> = {},
  more: Pick<OriginRules, "baseScope" | "modelAgent"> = { baseScope: "", modelAgent: undefined },
) {
  return resolveOrigin((name) => headers[name], body, { defaultAgent: "main", ...more, ...rules });
}

describe("resolveOrigin", () => {
  it.each([
    [{ "x-session-broker-key": "Chat 1" }, "", "default", "Chat 1"],
    [{ "x-session-broker-key": "Chat 1" }, "acme", "acme", "Chat 1"],
    [{ "x-openclaw-session": "Some:Key" }, "", "openclaw", "Some:Key"],
    [{ "x-openclaw-session": "k" }, "acme", "acme/openclaw", "k"],
    [{ "x-openclaw-session-key": "discord:1" }, "", "openclaw", "agent:main:discord:1"],
    [{ "x-openclaw-session-key": "main" }, "acme/eu", "acme/eu/openclaw", "agent:main:main"],
    [{ "x-openclaw-session-key": "agent:Ops:main" }, "", "openclaw", "agent:Ops:main"],
    [{ "x-openclaw-session-key": "AGENT:ops:x" }, "", "openclaw", "AGENT:ops:x"],
    [{ "x-openclaw-session-key": "my-cron:x" }, "", "openclaw", "agent:main:my-cron:x"],
  ])("%j below %j is %s, %s", (headers, baseScope, scope, externalId) => {
    expect(resolve(headers, baseScope)).toEqual({ scope, externalId, replayed: false });
  });

  it.each([
    [{ "x-openclaw-agent-id": "a", "x-openclaw-agent": "b" }, "c", "agent:a:k"],
    [{ "x-openclaw-agent": "b" }, "c", "agent:b:k"],
    [{}, "c", "agent:c:k"],
    [{ "x-openclaw-agent-id": "" }, undefined, "agent:main:k"],
  ])("the agent of %j and model agent %j makes %s", (headers, modelAgent, externalId) => {
    expect(resolve({ "x-openclaw-session-key": "k", ...headers }, "", modelAgent).externalId).toBe(
      externalId,
    );
  });

  it.each([
    ["x-litellm-session-id", "litellm"],
    ["x-claude-code-session-id", "claude-code"],
    ["x-opencode-session", "opencode"],
    ["x-chat-id", "chat-id"],
    ["x-thread-id", "thread-id"],
    ["x-session-id", "session-id"],
    ["session_id", "codex"],
  ])("%s is of a client that replays its history, in the scope %s", (name, scope) => {
    expect(resolve({ [name]: "S" }, "acme")).toEqual({
      scope: `acme/${scope}`,
      externalId: "S",
      replayed: true,
    });
  });

  it.each([
    ["x-openwebui-chat-id", "openwebui"],
    ["x-conversation-id", "librechat"],
  ])("%s is of a client that never sends a message alone, in the scope %s", (name, scope) => {
    const origin = { scope: `acme/${scope}`, externalId: "S", replayed: true, neverAlone: true };
    expect(resolve({ [name]: "S" }, "acme")).toEqual(origin);
  });

  it("leaves a request without an id to its history", () => {
    expect(resolve({})).toEqual({ scope: "history", replayed: true });
    expect(resolve({ "x-openclaw-agent-id": "a" }, "acme")).toEqual({
      scope: "acme/history",
      replayed: true,
    });
  });

  it.each([
    ["subagent:x"],
    ["cron:x"],
    ["acp:x"],
    ["Cron:x"],
    ["agent:main:subagent:x"],
    ["agent:Main:ACP:x"],
  ])("refuses the OpenClaw key %s", (key) => {
    expect(() => resolve({ "x-openclaw-session-key": key })).toThrow("x-openclaw-session-key may not begin");
  });

  it("refuses an agent id that would not stay in its place", () => {
    expect(() => resolve({ "x-openclaw-session-key": "k", "x-openclaw-agent": "a:b" })).toThrow(
      "not an agent id",
    );
  });

  it.each([["x-session-broker-key"], ["x-openclaw-session-key"], ["x-openclaw-session"]])(
    "refuses an empty %s",
    (name) => {
      expect(() => resolve({ [name]: "" })).toThrow(`header ${name} is empty`);
    },
  );

  it("refuses origins that disagree, and takes the first of those that do not", () => {
    expect(() => resolve({ "x-session-broker-key": "k", "x-openclaw-session": "l" })).toThrow(
      "x-session-broker-key and x-openclaw-session name different sessions",
    );
    expect(resolve({ "x-openclaw-session-key": "k", "x-openclaw-session": "agent:main:k" }).externalId).toBe(
      "agent:main:k",
    );
    expect(resolve({ "x-chat-id": "c", "x-openwebui-chat-id": "c" }).scope).toBe("openwebui");
    expect(() => resolveWith({ conversation: "a" }, { "x-chat-id": "b" })).toThrow(
      "conversation and x-chat-id name different sessions",
    );
  });

  it.each([
    [{ litellm_session_id: "S" }, "litellm-session-id", true],
    [{ metadata: { session_id: "S" } }, "metadata-session-id", true],
    [{ metadata: { conversation_id: "S" } }, "metadata-conversation-id", true],
    [{ conversation: "S" }, "responses", false],
    [{ conversation: { id: "S" } }, "responses", false],
  ])("reads %j of the body", (body, scope, replayed) => {
    expect(resolveWith(body)).toEqual({ scope, externalId: "S", replayed });
  });

  it.each([
    [{ user: "u", prompt_cache_key: "p" }, { "x-session-affinity": "a" }],
    [{ metadata: null, litellm_session_id: null, conversation: null }, {}],
    [{ metadata: "text" }, {}],
  ])("finds nothing in %j and %j", (body, headers) => {
    expect(resolveWith(body, headers)).toEqual({ scope: "history", replayed: true });
  });

  it.each([[{ litellm_session_id: 7 }], [{ litellm_session_id: "" }], [{ litellm_session_id: {} }]])(
    "refuses %j",
    (body) => {
      expect(() => resolveWith(body)).toThrow("litellm_session_id is not an id");
    },
  );

  it("leaves out what the credential does not accept", () => {
    const headers = { "x-session-broker-key": "k", "x-openwebui-chat-id": "c" };
    expect(resolveWith({}, headers, { accepted: ["x-openwebui-chat-id"] })).toMatchObject({
      scope: "openwebui",
      externalId: "c",
    });
    expect(resolveWith({}, headers, { accepted: ["metadata.session_id"] }).externalId).toBeUndefined();
  });
});

describe("originTable", () => {
  const table = originTable([
    { from: "field", source: "user", scope: "people", replayed: false },
    { from: "header", source: "x-chat-id", scope: "mine", replayed: false },
    { source: "x-session-id", off: true },
  ]);

  it("puts what is configured first, in the place of what is shipped under the name", () => {
    expect(resolveWith({ user: "u" }, {}, { table })).toEqual({
      scope: "people",
      externalId: "u",
      replayed: false,
    });
    expect(resolveWith({}, { "x-chat-id": "c" }, { table })).toEqual({
      scope: "mine",
      externalId: "c",
      replayed: false,
    });
    expect(resolveWith({}, { "x-session-id": "s" }, { table }).externalId).toBeUndefined();
    expect(resolveWith({}, { "x-thread-id": "t" }, { table }).scope).toBe("thread-id");
  });
});
