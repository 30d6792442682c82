/** Processes that stay between turns, seen through the broker: who gets them, and when they are gone. */
import { randomUUID } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { OnConflict } from "../../gen/sessionbroker/v1/turn_pb.js";
import { findMarked } from "../../src/providers/marks.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));

let home: string;
let broker: TestBroker;
let client: BrokerClient;

async function start(warm: object = {}): Promise<void> {
  const environment = { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config") };
  const workspaces = join(home, "workspaces");
  mkdirSync(workspaces, { recursive: true });
  const providers = [{ id: "claude", warm, claude: { executable, environment } }];
  broker = await TestBroker.start({ config: JSON.stringify({ workspaces, providers }) });
  client = broker.client();
}

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), "warm-"));
});

afterEach(async () => {
  await broker?.close();
  rmSync(home, { recursive: true, force: true });
});

const keyOf = (chat: string) => ({ scope: "acme", externalId: chat, provider: "claude" });

async function ask(chat: string, text: string, system = "") {
  const target = { case: "key" as const, value: keyOf(chat) };
  const turn = dispatchTurn(client, text, { target, onConflict: OnConflict.ENQUEUE, system });
  const { text: answer } = await turn.event("completed");
  return { answer, started: await turn.event("started"), accepted: await turn.event("accepted") };
}

const pidsOf = async (sessionId: string) =>
  (await findMarked((mark) => mark.endsWith(`/${sessionId}`))).map(({ pid }) => pid);

describe("a process that rests", () => {
  let sessionId: string;
  let nativeId: string;

  beforeEach(async () => {
    await start();
    const { accepted, started } = await ask("chat", "one");
    sessionId = accepted.session?.sessionId ?? "";
    nativeId = started.nativeId;
    expect(await pidsOf(sessionId)).toHaveLength(1);
  });

  it("answers the next turn", async () => {
    const { started, answer } = await ask("chat", "two");
    expect(started).toMatchObject({ warm: true, resumed: true });
    expect(answer).toContain("turns=2");
  });

  it("is gone before a caller is granted the lane", async () => {
    const stream = client.acquireLane({ key: keyOf("chat"), turnId: randomUUID() });
    for await (const { event } of stream) {
      if (event.case !== "granted") continue;
      expect(await pidsOf(sessionId)).toEqual([]);
      break;
    }
  });

  it("is gone before a Bind is answered", async () => {
    const selector = { case: "key" as const, value: keyOf("chat") };
    await client.bind({
      selector,
      nativeId: randomUUID(),
      expectedNativeId: nativeId,
      expectedGeneration: 1,
    });
    expect(await pidsOf(sessionId)).toEqual([]);
  });

  it("is gone before a Reset is answered", async () => {
    const selector = { case: "key" as const, value: keyOf("chat") };
    await client.resetSession({ selector, expectedGeneration: 1 });
    expect(await pidsOf(sessionId)).toEqual([]);
    const { answer } = await ask("chat", "two");
    expect(answer).toContain("turns=1");
  });

  it("is gone before a rotation by Reserve is answered", async () => {
    await client.reserve({ key: keyOf("chat"), sessionId: randomUUID(), expectedGeneration: 1 });
    expect(await pidsOf(sessionId)).toEqual([]);
  });

  it("is gone before a deletion is answered", async () => {
    await client.deleteSession({ selector: { case: "key", value: keyOf("chat") } });
    expect(await pidsOf(sessionId)).toEqual([]);
  });

  it("is gone when the broker has stopped, and does not outlive its death for long", async () => {
    await broker.restart("SIGTERM");
    expect(await pidsOf(sessionId)).toEqual([]);
    const { started } = await ask("chat", "two");
    expect(started).toMatchObject({ warm: false, resumed: true });
    await broker.restart("SIGKILL");
    expect(await pidsOf(sessionId)).toEqual([]);
    expect((await ask("chat", "three")).answer).toContain("turns=3");
  });

  it("is told a system prompt that has changed, once, before the message", async () => {
    await ask("other", "one", "Be brief.");
    expect((await ask("other", "two", "Be brief.")).answer).not.toContain("system_prompt_changed");
    const { started, answer } = await ask("other", "three", "Be long.");
    expect(started.warm).toBe(true);
    expect(answer).toContain("<system_prompt_changed>\\nBe long.\\n</system_prompt_changed>");
    const again = await ask("other", "four", "Be long.");
    expect(again.answer.match(/Be long/g)).toHaveLength(1);
  });
});

describe("processes that are started ahead", () => {
  /** Of this store: others on the machine have some of their own. */
  const ahead = async () => {
    const { storeId } = JSON.parse(readFileSync(join(broker.data, "store", "store.json"), "utf8"));
    return (await findMarked((mark) => mark.startsWith(`${storeId}/`) && mark.includes("/ahead-"))).length;
  };

  it("begin sessions, which keep their directory and memory over kill -9", { timeout: 60_000 }, async () => {
    await start({ ahead: 2 });
    const before = await ahead();
    expect(before).toBeLessThanOrEqual(2);
    await expect.poll(ahead, { timeout: 15_000 }).toBe(2);
    const { started } = await ask("chat", "one", "Be brief.");
    expect(started).toMatchObject({ warm: true, resumed: false });
    await expect.poll(ahead, { timeout: 15_000 }).toBe(3);
    expect((await ask("chat", "two")).answer).toContain("turns=2");

    await broker.restart("SIGKILL");
    await expect.poll(ahead, { timeout: 15_000 }).toBe(2);
    const third = await ask("chat", "three");
    expect(third.started).toMatchObject({ warm: false, resumed: true, nativeId: started.nativeId });
    expect(third.answer).toContain("turns=3");
    // Two that were never used were left by the kill, and are cleared away.
    expect(readdirSync(join(home, "workspaces", ".ahead"))).toHaveLength(3);

    await broker.kill("SIGTERM");
    expect(await ahead()).toBe(0);
    expect(readdirSync(join(home, "workspaces", ".ahead"))).toEqual([started.nativeId]);
  });
});
