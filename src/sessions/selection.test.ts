import { describe, expect, it } from "vitest";
import { identify } from "./key-scheme.js";
import { type Candidate, select } from "./selection.js";
import { noUsage } from "./session.js";

/** A row with this key, last used at this time. */
function candidate(
  [given, lastActivityMs]: readonly [string, number],
  scope = "openclaw",
  provider = "claude",
): Candidate {
  const parsed = identify("agent", given);
  if (!parsed.ok) throw new Error(parsed.problem);
  return {
    scheme: "agent",
    identity: parsed.identity,
    row: {
      recordNo: 1,
      key: { scope, externalId: parsed.identity.storeKey, provider },
      sessionId: "shared",
      nativeState: "unbound",
      generation: 1,
      createdAtMs: 0,
      startedAtMs: 0,
      lastActivityMs,
      turnCount: 0,
      usage: noUsage,
      agentTotal: {},
      workspace: "",
      pinned: false,
      aliases: [],
      labels: {},
      revision: 1,
    },
  };
}

function answer(id: string, candidates: readonly Candidate[]): string {
  const selection = select(candidates, id);
  switch (selection.kind) {
    case "none":
      return "none";
    case "selected":
      return `${selection.match} ${selection.candidate.identity.storeKey}`;
    case "ambiguous":
      return `ambiguous ${selection.candidates.map(({ identity }) => identity.storeKey).join(" ")}`;
  }
}

describe("an id that several rows own", () => {
  it.each<[string, string, [string, number][], string]>([
    ["nothing", "sid", [], "none"],
    ["one row", "sid", [["agent:main:main", 1]], "EXACT agent:main:main"],
    [
      "rows of one agent, tied",
      "s1",
      [
        ["agent:main:beta", 10],
        ["agent:main:alpha", 10],
      ],
      "ambiguous agent:main:alpha agent:main:beta",
    ],
    [
      "the freshest",
      "s1",
      [
        ["agent:main:a", 5],
        ["agent:main:b", 9],
        ["agent:main:c", 5],
      ],
      "FRESHEST agent:main:b",
    ],
    [
      "two that end with the id, tied, beside a fresher one",
      "sid",
      [
        ["agent:main:b:sid", 10],
        ["agent:main:a:sid", 10],
        ["agent:main:extra", 500],
      ],
      "ambiguous agent:main:a:sid agent:main:b:sid",
    ],
    [
      "the fresher of two that end with it",
      "run-1",
      [
        ["agent:main:a:run-1", 5],
        ["agent:main:b:run-1", 6],
      ],
      "STRUCTURAL agent:main:b:run-1",
    ],
    [
      "one that ends with it, beside a fresher one",
      "run-1",
      [
        ["agent:main:acp:run-1", 1],
        ["agent:main:x", 60],
      ],
      "STRUCTURAL agent:main:acp:run-1",
    ],
    [
      "one whose request key is the id",
      "run-1",
      [
        ["run-1", 1],
        ["agent:main:x", 9],
      ],
      "STRUCTURAL agent:main:run-1",
    ],
    [
      "the id in the middle counts for nothing",
      "run",
      [
        ["agent:main:run:tail", 1],
        ["agent:main:x", 9],
      ],
      "FRESHEST agent:main:x",
    ],
    [
      "nor as the agent",
      "run-1",
      [
        ["agent:run-1:main", 5],
        ["agent:main:x", 9],
      ],
      "FRESHEST agent:main:x",
    ],
    [
      "two agents with one request key are two",
      "sid-9",
      [
        ["agent:alpha:main", 10],
        ["agent:beta:main", 20],
      ],
      "FRESHEST agent:beta:main",
    ],
    [
      "and a tie between them is ambiguous",
      "run-1",
      [
        ["agent:a:acp:run-1", 5],
        ["agent:b:acp:run-1", 5],
      ],
      "ambiguous agent:a:acp:run-1 agent:b:acp:run-1",
    ],
    [
      "rooms that differ by case are two",
      "zzz",
      [
        ["agent:main:matrix:channel:!AbC:ex.org", 10],
        ["agent:main:matrix:channel:!aBc:ex.org", 10],
      ],
      "ambiguous agent:main:matrix:channel:!AbC:ex.org agent:main:matrix:channel:!aBc:ex.org",
    ],
    [
      "the id is spelt as the scheme spells it",
      "  Run-A  ",
      [
        ["agent:main:acp:run-a", 1],
        ["agent:main:x", 9],
      ],
      "STRUCTURAL agent:main:acp:run-a",
    ],
  ])("%s", (_, id, rows, expected) => {
    expect(
      answer(
        id,
        rows.map((row) => candidate(row)),
      ),
    ).toBe(expected);
    expect(answer(id, rows.map((row) => candidate(row)).reverse())).toBe(expected);
  });

  it("spellings of one conversation stand for one, the freshest", () => {
    expect(answer("main", [candidate(["agent:main:MAIN", 20]), candidate(["agent:main:main", 10])])).toBe(
      "EXACT agent:main:main",
    );
  });

  it("scopes and providers are never collapsed", () => {
    const rows = [
      candidate(["main", 5], "one"),
      candidate(["main", 5], "two"),
      candidate(["main", 5], "one", "codex"),
    ];
    const selection = select(rows, "shared");
    expect(selection.kind === "ambiguous" && selection.candidates).toHaveLength(3);
  });
});
