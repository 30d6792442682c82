/**
 * Chats with agents whose processes stay between turns and which give their
 * conversations ids themselves, over the whole broker. The agents are programs
 * of the fixtures that ask no model.
 */
import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Notice_Kind, Notice_Recovered, type TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import { findMarked } from "../../src/providers/marks.js";
import { TestBroker } from "../support/broker.js";
import { historyOf } from "./agents.js";

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));

describe.each(["acp", "gemini"] as const)("a chat with the provider %s", { timeout: 120_000 }, (kind) => {
  let store: string;
  let broker: TestBroker;

  beforeAll(async () => {
    store = mkdtempSync(join(tmpdir(), "protocol-chat-"));
    const environment = { FAKE_ACP_STORE: store };
    const permissions = { ask: true };
    const provider =
      kind === "acp"
        ? { id: kind, acp: { command: [fixture("fake-acp.mjs")], environment }, permissions }
        : { id: kind, gemini: { executable: fixture("fake-gemini.mjs"), environment }, permissions };
    broker = await TestBroker.start({ config: JSON.stringify({ providers: [provider] }) });
  });

  afterAll(async () => {
    await broker?.close();
    rmSync(store, { recursive: true, force: true });
  });

  const dispatch = (key: string, text: string, turnId = "") =>
    broker.client().dispatch({
      turnId,
      target: { case: "key", value: { scope: "default", externalId: key, provider: kind } },
      input: [{ part: { case: "text", value: text } }],
    });

  async function turn(key: string, text: string) {
    const events: TurnEvent[] = [];
    for await (const { event } of dispatch(key, text)) if (event !== undefined) events.push(event);
    return read(events);
  }

  it("keeps the agent's process, and its id", async () => {
    const first = await turn("warm", "one");
    const second = await turn("warm", "two");
    expect(historyOf(second.answer)).toEqual(["one", "two"]);
    expect([first.started.warm, second.started.warm]).toEqual([false, true]);
    expect(second.started.nativeId).toBe(first.started.nativeId);
    expect(first.started.nativeId).not.toBe("");
  });

  it("outlives kill -9 of the broker between two turns, and the process does not", async () => {
    const first = await turn("kill", "one");
    expect(await processesOf(first.sessionId)).toHaveLength(1);
    await broker.restart("SIGKILL");
    expect(await processesOf(first.sessionId)).toEqual([]);
    const second = await turn("kill", "two");
    expect(historyOf(second.answer)).toEqual(["one", "two"]);
    expect(second.started).toMatchObject({ nativeId: first.started.nativeId, resumed: true, warm: false });
  });

  it("is one session for 20 first messages at once, and none of them is lost", async () => {
    const prompts = Array.from({ length: 20 }, (_, i) => `message ${i}`);
    const turns = await Promise.all(prompts.map((prompt) => turn("a crowd", prompt)));
    expect(new Set(turns.map(({ sessionId }) => sessionId)).size).toBe(1);
    const longest = turns.map(({ answer }) => historyOf(answer)).find((history) => history.length === 20);
    expect([...(longest ?? [])].sort()).toEqual([...prompts].sort());
  });

  it("goes on with what the broker kept when the agent has lost the conversation", async () => {
    const first = await turn("lost", "I am Ada");
    await broker.restart("SIGTERM");
    rmSync(join(store, `${first.started.nativeId}.json`));
    const recovered = await turn("lost", "Who am I?");
    expect(recovered.notices).toMatchObject([
      { kind: Notice_Kind.NATIVE_SESSION_LOST, recovered: Notice_Recovered.HISTORY },
    ]);
    expect(recovered.started).toMatchObject({ attempt: 2, resumed: false });
    expect(recovered.started.nativeId).not.toBe(first.started.nativeId);
    expect(recovered.answer).toContain("I am Ada");
    const next = await turn("lost", "And now?");
    expect(next.notices).toEqual([]);
    expect(next.started.nativeId).toBe(recovered.started.nativeId);
    expect(historyOf(next.answer)).toHaveLength(2);
  });

  it("asks whether a tool may be used", async () => {
    const events: TurnEvent[] = [];
    const turnId = randomUUID();
    for await (const { event } of dispatch("permission", "[[ask rm]]", turnId)) {
      if (event === undefined) continue;
      events.push(event);
      if (event.event.case !== "permissionRequest") continue;
      const { permissionId, inputDigest } = event.event.value;
      await broker.client().respondPermission({ turnId, permissionId, inputDigest, allow: true });
    }
    expect(read(events).answer).toMatch(/permission=allow-once$/);
  });

  it("ends its processes with the broker", async () => {
    const { sessionId } = await turn("end", "one");
    await broker.restart("SIGTERM");
    expect(await processesOf(sessionId)).toEqual([]);
  });
});

function read(events: readonly TurnEvent[]) {
  const started = valuesOf(events, "started").at(-1);
  const completed = valuesOf(events, "completed")[0];
  if (started === undefined || completed === undefined) {
    throw new Error(
      `the turn ended: ${JSON.stringify(events.at(-1)?.event.value, (_, value) => String(value))}`,
    );
  }
  return {
    started,
    answer: completed.text,
    notices: valuesOf(events, "notice"),
    sessionId: acceptedOf(events).session?.sessionId ?? "",
  };
}

function acceptedOf(events: readonly TurnEvent[]) {
  const [accepted] = valuesOf(events, "accepted");
  if (accepted === undefined) throw new Error("the turn was not accepted");
  return accepted;
}

function valuesOf<Case extends TurnEvent["event"]["case"]>(events: readonly TurnEvent[], wanted: Case) {
  type Wanted = Extract<TurnEvent["event"], { case: Case }>["value"];
  return events.flatMap(({ event }) => (event.case === wanted ? [event.value as Wanted] : []));
}

/** Every process that was started for the session, by whichever life of the broker. */
async function processesOf(sessionId: string): Promise<readonly number[]> {
  const found = await findMarked((mark) => mark.endsWith(`/${sessionId}`));
  return found.map(({ pid }) => pid);
}
