/** An agent that asks whether it may use a tool, and those who answer. */
import { createHash } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import { reasonOf } from "../support/answers.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { attachTurn, dispatchTurn } from "../support/turns.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));
const input = '{"command":"make","jobs":[1,2]}';
const prompt = `[[ask Bash ${input}]]`;
const allowed = `tool={"behavior":"allow","updatedInput":${input}}`;

let home: string;
let broker: TestBroker;
let gateway: BrokerClient;

const credential = (name: string, role: string, scopes: string[]) => ({
  name,
  role,
  scopes,
  tokenSha256: createHash("sha256").update(name).digest("hex"),
});

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "permissions-"));
  const claude = { executable, environment: { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config") } };
  const config = JSON.stringify({
    providers: [
      { id: "claude", claude, permissions: { ask: true, deadline: "60s" } },
      { id: "hasty", claude, permissions: { ask: true, deadline: "0.2s" } },
      { id: "strict", claude },
    ],
    credentials: [
      credential("gateway", "ROLE_DISPATCH", ["acme", "acme/*"]),
      credential("colleague", "ROLE_DISPATCH", ["acme", "acme/*"]),
      credential("approver", "ROLE_APPROVE", ["acme"]),
      credential("stranger", "ROLE_APPROVE", ["other"]),
    ],
  });
  broker = await TestBroker.start({ config });
  gateway = clientOf("gateway");
});

afterAll(async () => {
  await broker?.close();
  rmSync(home, { recursive: true, force: true });
});

const clientOf = (name: string) => broker.client("connect-h2", name);

function dispatch(chat: string, provider = "claude", text = prompt) {
  const target = { case: "key" as const, value: { scope: "acme", externalId: chat, provider } };
  return dispatchTurn(gateway, text, { target });
}

/** A turn whose agent waits for an answer. */
async function asking(chat: string) {
  const turn = dispatch(chat);
  const question = await turn.event("permissionRequest");
  const { turnId } = turn;
  const { permissionId, inputDigest } = question;
  const answer = (allow: boolean, more: { message?: string; inputDigest?: string } = {}) => ({
    turnId,
    permissionId,
    inputDigest,
    allow,
    ...more,
  });
  return { turn, question, answer };
}

const pendingOf = async (turnId: string) =>
  (await gateway.getTurn({ turnId })).turn?.pendingPermissions ?? [];

describe("a question", () => {
  it("is an event and listed with the turn, also for those who come later", async () => {
    const { turn, question, answer } = await asking("shown");
    expect(question).toMatchObject({
      tool: "Bash",
      input,
      inputDigest: createHash("sha256").update(input).digest("hex"),
    });
    const secondsLeft = Number(question.deadline?.seconds ?? 0n) - Date.now() / 1_000;
    expect(secondsLeft).toBeGreaterThan(30);
    expect(secondsLeft).toBeLessThanOrEqual(60);
    expect(await pendingOf(turn.turnId)).toEqual([question]);
    const later = attachTurn(gateway, turn.turnId);
    expect(await later.event("permissionRequest")).toEqual(question);
    await gateway.respondPermission(answer(true));
    expect((await later.ended).at(-1)).toEqual((await turn.ended).at(-1));
    expect(await pendingOf(turn.turnId)).toEqual([]);
  });

  it("that is answered with yes lets the agent use the tool as it asked", async () => {
    const { turn, question, answer } = await asking("allowed");
    const { decision } = await gateway.respondPermission(answer(true, { message: "go on" }));
    expect(decision).toMatchObject({ permissionId: question.permissionId, allowed: true, message: "go on" });
    expect((await turn.event("completed")).text).toContain(allowed);
    expect(turn.cases()).toEqual([
      "accepted",
      "started",
      "toolCall",
      "permissionRequest",
      "permissionDecision",
      "toolResult",
      ...turn.cases().filter((each) => each === "textDelta"),
      "completed",
    ]);
    expect(await turn.event("permissionDecision")).toEqual(decision);
  });

  it("that is answered with no makes the agent do without, and tells it why", async () => {
    const { turn, answer } = await asking("denied");
    await gateway.respondPermission(answer(false, { message: "not on a Sunday" }));
    expect((await turn.event("completed")).text).toContain(
      'tool={"behavior":"deny","message":"not on a Sunday"}',
    );
    expect(await turn.event("toolResult")).toMatchObject({ isError: true });
  });

  it("takes the first answer and refuses the others", async () => {
    const { turn, answer } = await asking("raced");
    const calls = [true, false, true, false].map((allow) => gateway.respondPermission(answer(allow)));
    const reasons = await Promise.all(calls.map((call) => reasonOf(call)));
    expect(reasons.filter((reason) => reason === "none")).toHaveLength(1);
    expect(new Set(reasons.filter((reason) => reason !== "none"))).toEqual(
      new Set(["FailedPrecondition PERMISSION_DECIDED"]),
    );
    const decision = await turn.event("permissionDecision");
    expect((await turn.event("completed")).text.includes(allowed)).toBe(decision.allowed);
  });

  it("is not answered by who has seen another input, or another question", async () => {
    const { turn, answer } = await asking("mistaken");
    const wrong = gateway.respondPermission(answer(true, { inputDigest: "0".repeat(64) }));
    expect(await reasonOf(wrong)).toBe("FailedPrecondition PERMISSION_MISMATCH");
    const other = gateway.respondPermission({ ...answer(true), permissionId: "another" });
    expect(await reasonOf(other)).toBe("NotFound PERMISSION_NOT_FOUND");
    expect(await pendingOf(turn.turnId)).toHaveLength(1);
    await gateway.respondPermission(answer(false));
    await turn.event("completed");
  });

  it("is answered by its own credential or by an approver of its scope, and by nobody else", async () => {
    const { turn, answer } = await asking("whose");
    const by = (name: string) => reasonOf(clientOf(name).respondPermission(answer(true)));
    expect(await by("colleague")).toBe("PermissionDenied ROLE_TOO_LOW");
    expect(await by("stranger")).toBe("NotFound TURN_NOT_FOUND");
    expect(await pendingOf(turn.turnId)).toHaveLength(1);
    expect(
      (await clientOf("approver").getTurn({ turnId: turn.turnId })).turn?.pendingPermissions,
    ).toHaveLength(1);
    expect(await by("approver")).toBe("none");
    expect((await turn.event("completed")).text).toContain(allowed);
  });

  it("that nobody answers in time is answered with no", async () => {
    const turn = dispatch("late", "hasty");
    const { permissionId, inputDigest } = await turn.event("permissionRequest");
    expect(await turn.event("permissionDecision")).toMatchObject({ permissionId, allowed: false });
    expect((await turn.event("completed")).text).toContain('tool={"behavior":"deny"');
    const late = gateway.respondPermission({ turnId: turn.turnId, permissionId, inputDigest, allow: true });
    expect(await reasonOf(late)).toBe("FailedPrecondition TURN_ENDED");
  });

  it("is void when its turn has ended", async () => {
    const { turn, answer } = await asking("over");
    await gateway.respondPermission(answer(false));
    await turn.ended;
    expect(await reasonOf(gateway.respondPermission(answer(true)))).toBe("FailedPrecondition TURN_ENDED");
  });

  it("is void when its turn is cancelled, and the tool is not used", async () => {
    const { turn, answer } = await asking("cancelled");
    await gateway.cancelTurn({ turnId: turn.turnId });
    await turn.event("cancelled");
    expect(turn.cases()).not.toContain("toolResult");
    expect(turn.cases()).not.toContain("permissionDecision");
    const { turn: row } = await gateway.getTurn({ turnId: turn.turnId });
    expect(row).toMatchObject({ state: TurnState.CANCELLED, pendingPermissions: [] });
    expect(await reasonOf(gateway.respondPermission(answer(true)))).toBe("FailedPrecondition TURN_ENDED");
    // The session goes on.
    const next = dispatch("cancelled", "claude", "next");
    expect((await next.event("completed")).text).toContain("next");
  });
});

describe("a provider that is not configured to ask", () => {
  it("denies what is not allowed", async () => {
    const turn = dispatch("strict", "strict");
    expect((await turn.event("completed")).text).toContain("tool=denied");
    expect(turn.cases()).not.toContain("permissionRequest");
  });

  it("says that it does not ask", async () => {
    const { providers } = await gateway.getServerInfo({});
    const asks = providers.map(({ id, capabilities }) => [id, capabilities?.permissionRequests]);
    expect(asks).toEqual([
      ["claude", true],
      ["hasty", true],
      ["strict", false],
      ["echo", false],
    ]);
  });
});
