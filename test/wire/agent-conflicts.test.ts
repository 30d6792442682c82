/** STEER and INTERRUPT with an agent that is a process; what they do to turns in general is in conflicts.test.ts. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Cancelled_Reason, OnConflict, TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import { findMarked } from "../../src/providers/marks.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));

let home: string;
let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "agent-conflicts-"));
  const environment = { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config") };
  const config = JSON.stringify({
    providers: [
      { id: "claude", claude: { executable, environment } },
      {
        id: "older",
        claude: { executable, environment: { ...environment, FAKE_CLAUDE_VERSION: "2.1.197" } },
      },
    ],
  });
  broker = await TestBroker.start({ config });
  client = broker.client();
});

afterAll(async () => {
  await broker?.close();
  rmSync(home, { recursive: true, force: true });
});

function dispatch(chat: string, text: string, onConflict = OnConflict.ENQUEUE, provider = "claude") {
  const target = { case: "key" as const, value: { scope: "acme", externalId: chat, provider } };
  return dispatchTurn(client, text, { target, onConflict });
}

const historyOf = (answer: string) => JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");
const stateOf = async (turnId: string) => (await client.getTurn({ turnId })).turn?.state;

describe("STEER", () => {
  it("is taken into the answer while a tool runs", async () => {
    const running = dispatch("tool", "one [[work 1]]");
    await running.event("toolCall");
    const more = dispatch("tool", "two", OnConflict.STEER);
    const { text, usage } = await running.event("completed");
    expect(historyOf(text)).toEqual(["one [[work 1]]", "two"]);
    expect(usage?.inputTokens).toBe(10n);
    expect(await more.event("completed")).toMatchObject({ text });
    expect(await stateOf(more.turnId)).toBe(TurnState.MERGED);
  });

  it("is answered next while the agent speaks, and the session pays for both", async () => {
    const running = dispatch("speech", "one [[talk 1]] [[say First.]]");
    await running.event("textDelta");
    dispatch("speech", "two [[say Second.]]", OnConflict.STEER);
    const { text, usage } = await running.event("completed");
    expect(text).toBe("First.\n\nSecond.");
    expect(usage).toMatchObject({ inputTokens: 20n });
    expect((await dispatch("speech", "three").event("completed")).usage).toMatchObject({ inputTokens: 10n });
    const key = { scope: "acme", externalId: "speech", provider: "claude" };
    const { session } = await client.getSession({ selector: { case: "key", value: key } });
    expect(session?.usage).toMatchObject({ inputTokens: 30n });
  });

  it("waits for its own turn with an agent that cannot tell what it answers", async () => {
    const running = dispatch("older", "one [[hang]]", OnConflict.ENQUEUE, "older");
    await running.event("textDelta");
    const more = dispatch("older", "two", OnConflict.STEER, "older");
    await more.event("accepted");
    await client.cancelTurn({ turnId: running.turnId });
    await running.event("cancelled");
    expect(historyOf((await more.event("completed")).text)).toEqual(["one [[hang]]", "two"]);
  });
});

describe("INTERRUPT", () => {
  it.each(["claude", "older"])(
    "stops %s in mid-answer and goes on in the same conversation",
    async (provider) => {
      const running = dispatch("interrupt", "one [[hang]]", OnConflict.ENQUEUE, provider);
      await running.event("textDelta");
      const urgent = dispatch("interrupt", "two", OnConflict.INTERRUPT, provider);
      expect(await running.event("cancelled")).toMatchObject({
        reason: Cancelled_Reason.SUPERSEDED,
        byTurnId: urgent.turnId,
        partialText: "turns",
      });
      expect(historyOf((await urgent.event("completed")).text)).toEqual(["one [[hang]]", "two"]);
      const { turn } = await client.getTurn({ turnId: running.turnId });
      expect(turn?.usage?.inputTokens).toBe(10n);
    },
  );

  it("drops text that the running turn was given and has not read", async () => {
    const running = dispatch("given", "one [[talk 9]]");
    await running.event("textDelta");
    const more = dispatch("given", "two", OnConflict.STEER);
    await more.event("textDelta");
    const urgent = dispatch("given", "three", OnConflict.INTERRUPT);
    await running.event("cancelled");
    await more.event("cancelled");
    expect(historyOf((await urgent.event("completed")).text)).toEqual(["one [[talk 9]]", "three"]);
  });
});

it("leaves no agent behind", async () => {
  const { sessions } = await client.listSessions({});
  const sessionIds = sessions.map(({ sessionId }) => sessionId);
  expect(sessionIds.length).toBeGreaterThan(3);
  await broker.kill("SIGTERM");
  expect(await findMarked((mark) => sessionIds.some((id) => mark.endsWith(`/${id}`)))).toEqual([]);
});
