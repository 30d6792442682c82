import { describe, expect, it } from "vitest";
import { decideImport, type ImportFacts } from "./importing.js";
import { noUsage, type SessionRow } from "./session.js";
import type { ImportRow } from "./session-store.js";

const key = { scope: "openclaw", externalId: "agent:main:chat", provider: "claude" };

const row: ImportRow = {
  key,
  importedKey: "agent:main:Chat",
  sessionId: "theirs",
  aliases: ["a"],
  labels: {},
  workspace: "",
  createdAtMs: 1,
  startedAtMs: 1,
  lastActivityMs: 50,
};

const present: SessionRow = {
  recordNo: 1,
  key,
  sessionId: "mine",
  nativeState: "unbound",
  generation: 3,
  createdAtMs: 1,
  startedAtMs: 1,
  lastActivityMs: 20,
  turnCount: 0,
  usage: noUsage,
  agentTotal: {},
  workspace: "",
  pinned: false,
  aliases: [],
  labels: {},
  revision: 5,
};
const spelt: SessionRow = { ...present, importedKey: "agent:main:CHAT" };

describe("an imported row", () => {
  it.each<[string, Partial<ImportRow>, Partial<ImportFacts>, object]>([
    ["of a new key", {}, {}, { result: "CREATED", message: "", row: { sessionId: "theirs", generation: 1 } }],
    ["with a native id", { nativeId: "n" }, {}, { row: { nativeId: "n", nativeState: "bound" } }],
    [
      "with a native id that another has",
      { nativeId: "n" },
      { nativeIdTaken: true },
      { result: "CREATED", message: expect.stringContaining("native id"), row: { nativeState: "unbound" } },
    ],
    ["that is there", { sessionId: "mine", lastActivityMs: 10 }, { row: present }, { result: "KEPT" }],
    [
      "that is there, older",
      { sessionId: "mine" },
      { row: present },
      { result: "KEPT", row: { lastActivityMs: 50 } },
    ],
    ["of a key with another session", {}, { row: present }, { result: "CONFLICTING" }],
    [
      "of another spelling, fresher",
      {},
      { row: spelt },
      { result: "CREATED", message: expect.stringContaining("mine"), row: { generation: 4 } },
    ],
    ["of another spelling, older", { lastActivityMs: 10 }, { row: spelt }, { result: "CONFLICTING" }],
    ["of another spelling, in use", {}, { row: { ...spelt, turnCount: 1 } }, { result: "CONFLICTING" }],
    [
      "under a turn",
      {},
      { busyTurnId: "t" },
      { result: "CONFLICTING", message: expect.stringContaining("t") },
    ],
    ["with a taken alias", {}, { takenAlias: "a" }, { result: "CONFLICTING" }],
  ])("%s", (_, more, facts, expected) => {
    expect(
      decideImport({ ...row, ...more }, { nativeIdTaken: false, newRecordNo: 9, ...facts }),
    ).toMatchObject(expected);
  });

  it("that conflicts writes nothing", () => {
    expect(decideImport(row, { row: present, nativeIdTaken: false, newRecordNo: 9 })).not.toHaveProperty(
      "row",
    );
  });
});
