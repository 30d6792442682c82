import { describe, expect, it } from "vitest";
import { resolveOrigin } from "./origin.js";

function resolve(headers: Readonly<Record<string, string>>, baseScope = "", modelAgent?: string) {
  return resolveOrigin((name) => headers[name], {
    baseScope,
    modelAgent,
    defaultAgent: "main",
  });
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

  it("refuses origins that disagree, and takes those that do not", () => {
    expect(() => resolve({ "x-session-broker-key": "k", "x-openclaw-session": "k" })).toThrow(
      "x-session-broker-key and x-openclaw-session name different sessions",
    );
    expect(resolve({ "x-openclaw-session-key": "k", "x-openclaw-session": "agent:main:k" }).externalId).toBe(
      "agent:main:k",
    );
  });
});
