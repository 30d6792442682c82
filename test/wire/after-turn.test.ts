/** Going on from a turn: in its session, or in one that forks off there. */
import { createHash, randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Visibility } from "../../gen/sessionbroker/v1/session_pb.js";
import { ScriptedService } from "../compat/scripted-service.js";
import { detailOf, reasonOf } from "../support/answers.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { dispatchTurn, type FollowedTurn } from "../support/turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));
const foreignToken = "token-of-another";

let home: string;
let service: ScriptedService;
let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "forks-"));
  service = await ScriptedService.start();
  const environment = { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config") };
  const tokenSha256 = createHash("sha256").update(foreignToken).digest("hex");
  broker = await TestBroker.start({
    config: JSON.stringify({
      providers: [service.provider, { id: "claude", claude: { executable, environment } }],
      credentials: [{ name: "other", tokenSha256, role: "ROLE_DISPATCH", scopes: ["other"] }],
    }),
  });
  client = broker.client();
});

afterAll(async () => {
  await broker?.close();
  await service?.[Symbol.asyncDispose]();
  rmSync(home, { recursive: true, force: true });
});

function newKey(provider = "scripted") {
  return { scope: "acme/forks", externalId: randomUUID(), provider };
}

function say(text: string, key = newKey()): FollowedTurn {
  return dispatchTurn(client, text, { target: { case: "key", value: key } });
}

function goOn(turnId: string, text: string, asking = client): FollowedTurn {
  return dispatchTurn(asking, text, { target: { case: "afterTurn", value: { turnId } } });
}

async function answered(turn: FollowedTurn): Promise<{ turnId: string; sessionId: string; text: string }> {
  const { session } = await turn.event("accepted");
  const { text } = await turn.event("completed");
  return { turnId: turn.turnId, sessionId: session?.sessionId ?? "", text };
}

/** What the model was told in the last question. */
const told = () => service.asked.at(-1)?.messages.map(({ content }: { content: unknown }) => content);

describe("a turn after another", () => {
  it("goes on in its session while nothing was said there since", async () => {
    const first = await answered(say("say one"));
    const failed = goOn(first.turnId, "fail");
    expect((await failed.ended).at(-1)?.event.case).toBe("failed");
    const second = await answered(goOn(first.turnId, "say two"));
    expect(second.sessionId).toBe(first.sessionId);
    expect((await answered(goOn(second.turnId, "say three"))).sessionId).toBe(first.sessionId);
    expect(told()).toEqual(["say one", "one", "say two", "two", "say three"]);
  });

  it("forks off with what was said until then, for good", async () => {
    const first = await answered(say("say one"));
    const second = await answered(goOn(first.turnId, "say two"));
    await answered(goOn(second.turnId, "say three"));
    const fork = await answered(goOn(second.turnId, "say other"));
    expect(fork.sessionId).not.toBe(first.sessionId);
    await broker.restart("SIGKILL");
    client = broker.client();
    const next = await answered(goOn(fork.turnId, "say more"));
    expect(next.sessionId).toBe(fork.sessionId);
    expect(told()).toEqual(["say one", "one", "say two", "two", "say other", "other", "say more"]);
  });

  it("is told what was said by an agent that remembers, too", async () => {
    const first = await answered(say("my name is Ada", newKey("claude")));
    await answered(goOn(first.turnId, "and I like chess"));
    const fork = await answered(goOn(first.turnId, "and I like tea"));
    expect(fork.text).toContain("my name is Ada");
    expect(fork.text).not.toContain("chess");
    const next = await answered(goOn(fork.turnId, "what do you know"));
    expect(next.sessionId).toBe(fork.sessionId);
    expect(next.text).not.toContain("chess");
  });

  it("is told it again if its first turn fails", async () => {
    const first = await answered(say("my name is Ada", newKey("claude")));
    await answered(goOn(first.turnId, "and I like chess"));
    const failed = goOn(first.turnId, "[[fail 429]] and I like tea");
    expect((await failed.ended).at(-1)?.event.case).toBe("failed");
    const again = await answered(goOn(failed.turnId, "and I like tea"));
    expect(again.sessionId).not.toBe(first.sessionId);
    const prompts = JSON.parse(/history=(.*)$/s.exec(again.text)?.[1] ?? "[]");
    expect(prompts.at(-1)).toContain("my name is Ada");
  });

  it("goes on once and forks the other times, of many at once", async () => {
    const first = await answered(say("say one"));
    const many = await Promise.all(
      Array.from({ length: 8 }, (_, i) => answered(goOn(first.turnId, `say ${i}`))),
    );
    const sessions = many.map(({ sessionId }) => sessionId);
    expect(sessions.filter((id) => id === first.sessionId)).toHaveLength(1);
    expect(new Set(sessions).size).toBe(8);
  });

  it("waits for one that runs, and is refused once others wait for it", async () => {
    const key = newKey();
    const running = say("hold\nsay one", key);
    await service.held();
    const waiting = goOn(running.turnId, "say two");
    await waiting.event("accepted");
    const late = { target: { case: "afterTurn" as const, value: { turnId: running.turnId } } };
    const input = [{ part: { case: "text" as const, value: "say three" } }];
    expect(await reasonOf(client.dispatch({ ...late, input }))).toBe("Aborted SESSION_BUSY");
    expect(await detailOf(client.dispatch({ ...late, input }))).toMatchObject({ turn_id: running.turnId });
    service.letGo();
    expect((await answered(waiting)).sessionId).toBe((await answered(running)).sessionId);
  });

  it("that is repeated runs once, although its session has gone on", async () => {
    const first = await answered(say("say one"));
    const second = await answered(goOn(first.turnId, "say two"));
    await answered(goOn(second.turnId, "say three"));
    const before = service.asked.length;
    const again = dispatchTurn(client, "say two", {
      turnId: second.turnId,
      target: { case: "afterTurn", value: { turnId: first.turnId } },
    });
    expect((await answered(again)).sessionId).toBe(first.sessionId);
    expect(service.asked).toHaveLength(before);
  });

  it("is not found by who may not see it, and not of one that is not kept", async () => {
    const first = await answered(say("say one"));
    expect(await reasonOf(goOn(first.turnId, "x", broker.client("connect", foreignToken)).ended)).toBe(
      "NotFound TURN_NOT_FOUND",
    );
    expect(await reasonOf(goOn("nothing", "x").ended)).toBe("NotFound TURN_NOT_FOUND");
    const internal = dispatchTurn(client, "say aside", {
      target: { case: "key", value: newKey() },
      reserve: { visibility: Visibility.INTERNAL },
    });
    await internal.event("completed");
    expect(await reasonOf(goOn(internal.turnId, "x").ended)).toBe("InvalidArgument INVALID_FIELD");
  });
});
