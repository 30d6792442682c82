/** The commands of daily administration, against a running broker. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { objectsOf, runCommand, startCommand } from "../support/command.js";
import { dispatchTurn } from "../support/turns.js";

const config = `
providers:
  - { id: echo, echo: {} }
  - { id: slow, echo: { delay: 3600s } }
`;

let broker: TestBroker;
let client: BrokerClient;
/** Each test has a scope of its own. */
let scope = "";
let scopes = 0;

beforeAll(async () => {
  broker = await TestBroker.start({ config });
  client = broker.client();
});

beforeEach(() => {
  scopes += 1;
  scope = `scope-${scopes}`;
});

afterAll(() => broker.close());

const run = (...words: readonly string[]) => runCommand(broker, words);
const key = (externalId: string, provider = "echo") => ({ scope, externalId, provider });
const target = (externalId: string, provider?: string) => ({
  case: "key" as const,
  value: key(externalId, provider),
});
const named = (externalId: string, provider = "echo") => [
  ...["--scope", scope, "--external-id", externalId],
  ...["--provider", provider],
];

async function reserved(externalId: string, labels: Record<string, string> = {}): Promise<string> {
  return (await client.reserve({ key: key(externalId), labels })).session?.sessionId ?? "";
}

function answered(externalId: string, text = "hello") {
  const turn = dispatchTurn(client, text, { target: target(externalId) });
  return turn.ended.then(() => turn.turnId);
}

async function running(externalId: string) {
  const turn = dispatchTurn(client, "wait", { target: target(externalId, "slow") });
  await turn.event("started");
  return turn;
}

describe("sessions list", () => {
  it("shows a table, latest activity first", async () => {
    const older = await reserved("older");
    await answered("newer");
    const { exitCode, stdout, stderr } = await run("sessions", "list", "--scope", scope);
    expect([exitCode, stderr]).toEqual([0, ""]);
    const rows = stdout.split("\n").map((line) => line.split(/ {2,}/));
    expect(rows[0]).toEqual([
      "session",
      "scope",
      "external id",
      "provider",
      "state",
      "turns",
      "last activity",
      "lane",
    ]);
    expect(rows.slice(1).map((row) => row.slice(2, 6))).toEqual([
      ["newer", "echo", "active", "1"],
      ["older", "echo", "reserved", "0"],
    ]);
    expect(rows[2]?.[0]).toBe(older);
  });

  it("shows programs one JSON object a line, and takes what is asked for", async () => {
    await reserved("a", { team: "x=y" });
    await answered("b");
    const list = async (...more: readonly string[]) =>
      objectsOf(await run("sessions", "list", "--json", "--scope", scope, ...more)).map(
        (session) => (session.key as { externalId: string }).externalId,
      );
    expect(await list()).toEqual(["b", "a"]);
    expect(await list("--state", "reserved")).toEqual(["a"]);
    expect(await list("--state", "reserved", "--state", "active")).toEqual(["b", "a"]);
    expect(await list("--label", "team=x=y")).toEqual(["a"]);
    expect(await list("--provider", "slow")).toEqual([]);
    expect(await list("--idle", "1h")).toEqual([]);
    expect((await run("sessions", "list", "--scope", "none")).stdout).toBe("No session is like this.");
  });

  it("goes through all pages, or says that there are more", async () => {
    const names = Array.from({ length: 130 }, (_, i) => `chat-${i}`);
    await Promise.all(names.map((name) => reserved(name)));
    const some = await run("sessions", "list", "--json", "--scope", scope);
    expect(objectsOf(some)).toHaveLength(100);
    expect(some.stderr).toContain("--limit 0");
    const all = await run("sessions", "list", "--json", "--scope", scope, "--limit", "0");
    expect(new Set(objectsOf(all).map(({ sessionId }) => sessionId)).size).toBe(130);
    expect(all.stderr).toBe("");
  });

  it("lets no name steer the terminal", async () => {
    await client.reserve({ key: key("bad \u202e name") });
    const { stdout } = await run("sessions", "list", "--scope", scope);
    expect(stdout).toContain("bad \\u{202e} name");
  });
});

describe("sessions show", () => {
  it("names the session by id or by key", async () => {
    const id = await reserved("chat", { team: "a" });
    for (const how of [[id], [id, "--scope", scope], named("chat")]) {
      const { exitCode, stdout } = await run("sessions", "show", ...how);
      expect(exitCode).toBe(0);
      expect(stdout).toMatch(new RegExp(`^session +${id}$`, "m"));
      expect(stdout).toMatch(/^labels +team=a$/m);
      expect(stdout).toMatch(/^lane +free$/m);
    }
    expect(objectsOf(await run("sessions", "show", id, "--json"))).toMatchObject([
      { sessionId: id, generation: 1, pinned: false },
    ]);
  });

  it("says that there is none, and what to do", async () => {
    for (const how of [["nobody"], named("nobody")]) {
      const { exitCode, stdout, stderr } = await run("sessions", "show", ...how);
      expect([exitCode, stdout]).toEqual([1, ""]);
      expect(stderr).toContain("no session has");
      expect(stderr).toContain("sessions list");
      expect(stderr).not.toContain("\n");
    }
  });
});

describe("sessions reset", () => {
  it("gives the key a new session, once each time", async () => {
    const id = await reserved("chat");
    const first = await run("sessions", "reset", id);
    expect(first).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("generation 2") });
    expect(first.stdout).toContain(`${id} is archived`);
    expect(objectsOf(await run("sessions", "reset", ...named("chat"), "--json"))).toMatchObject([
      { session: { generation: 3 } },
    ]);
  });

  it("refuses another generation than the one that is named", async () => {
    await reserved("chat");
    const { exitCode, stderr } = await run("sessions", "reset", ...named("chat"), "--generation", "7");
    expect(exitCode).toBe(1);
    expect(stderr).toContain("sessions show");
    expect((await client.getSession({ selector: target("chat") })).session?.generation).toBe(1);
  });

  it("is refused while a turn runs, unless it is forced", async () => {
    const turn = await running("chat");
    const refused = await run("sessions", "reset", ...named("chat", "slow"));
    expect(refused.exitCode).toBe(1);
    expect(refused.stderr).toContain("--force");
    const forced = await run("sessions", "reset", ...named("chat", "slow"), "--force");
    expect(forced).toMatchObject({ exitCode: 0, stderr: "" });
    expect((await turn.ended).at(-1)?.event.case).toBe("cancelled");
  });
});

it("sessions delete takes turns along, and says what was left", async () => {
  await answered("chat");
  const { exitCode, stdout } = await run("sessions", "delete", ...named("chat"));
  expect(exitCode).toBe(0);
  expect(stdout).toContain("and 1 turn;");
  expect(stdout).toContain("transcript was left");
  expect((await run("sessions", "show", ...named("chat"))).exitCode).toBe(1);
  await answered("other");
  expect(objectsOf(await run("sessions", "delete", ...named("other"), "--json"))).toMatchObject([
    { deletedTurns: 1, session: { key: key("other") } },
  ]);
});

describe("turns", () => {
  it("list shows them newest first, of what is asked for", async () => {
    const first = await answered("a", "one");
    const second = await answered("b", "two");
    const { exitCode, stdout } = await run("turns", "list", "--scope", scope);
    expect(exitCode).toBe(0);
    expect(stdout.split("\n").map((line) => line.split(/ {2,}/)[0])).toEqual(["turn", second, first]);
    const list = async (...more: readonly string[]) =>
      objectsOf(await run("turns", "list", "--json", ...more)).map(({ turnId }) => turnId);
    expect(await list(...named("a"))).toEqual([first]);
    const session = (await client.getSession({ selector: target("b") })).session?.sessionId ?? "";
    expect(await list("--session", session)).toEqual([second]);
    const today = new Date().toISOString().slice(0, 10);
    expect(await list("--scope", scope, "--state", "completed", "--until", today)).toEqual([second, first]);
    expect(await list("--scope", scope, "--state", "failed")).toEqual([]);
    expect(await list("--scope", scope, "--until", "2020-01-01")).toEqual([]);
    expect(await list("--scope", scope, "--limit", "1")).toEqual([second]);
  });

  it("show tells how it ended and what was answered", async () => {
    const turnId = await answered("chat", "line one\nline \u001b[31m two");
    const { exitCode, stdout } = await run("turns", "show", turnId);
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/^ending +completed$/m);
    expect(stdout).toContain("\n\nturn 1: line one\nline \\u{1b}[31m two");
    expect(objectsOf(await run("turns", "show", turnId, "--json"))).toMatchObject([
      { turnId, state: "TURN_STATE_COMPLETED" },
    ]);
    const missing = await run("turns", "show", "nothing");
    expect(missing.exitCode).toBe(1);
    expect(missing.stderr).toContain("turns list");
  });

  it("cancel ends what runs and what waits, and follow sees it", async () => {
    const turn = await running("chat");
    const waiting = dispatchTurn(client, "later", { target: target("chat", "slow") });
    await waiting.event("accepted");
    const following = startCommand(broker, ["turns", "follow", turn.turnId]);
    let seen = "";
    following.stderr?.on("data", (chunk) => {
      seen += String(chunk);
    });
    await expect.poll(() => seen, { timeout: 15_000 }).toContain("started");
    const removed = await run("turns", "cancel", waiting.turnId);
    expect(removed).toMatchObject({ exitCode: 0, stdout: expect.stringContaining("it was waiting") });
    expect(objectsOf(await run("turns", "cancel", turn.turnId, "--json"))).toMatchObject([
      { action: "ACTION_INTERRUPTING", turn: { turnId: turn.turnId } },
    ]);
    const { exitCode, stderr } = await following;
    expect(exitCode).toBe(1);
    expect(stderr).toMatch(/^cancelled \(requested\)$/m);
    expect((await run("turns", "cancel", turn.turnId)).stdout).toContain("had ended before");
  });

  it("follow gives the text on standard output, and each event to programs", async () => {
    const turnId = await answered("chat", "two words");
    const { exitCode, stdout, stderr } = await run("turns", "follow", turnId);
    expect([exitCode, stdout]).toEqual([0, "turn 1: two words"]);
    expect(stderr.split("\n").at(-1)).toBe("completed");
    const all = objectsOf(await run("turns", "follow", turnId, "--json"));
    expect(all.map(({ sequence }) => sequence)).toEqual(all.map((_, index) => index + 1));
    expect(all.at(-1)).toMatchObject({ turnId, completed: { text: "turn 1: two words" } });
    const rest = objectsOf(await run("turns", "follow", turnId, "--json", "--after", "2"));
    expect(rest).toEqual(all.slice(2));
  });
});

describe("prune", () => {
  it("says what it would do, does it, and says why something stayed", async () => {
    for (const name of ["a", "b", "c"]) await reserved(name);
    await client.pinSession({ selector: target("a"), pinned: true });
    const over = ["prune", "--scope", scope, "--max-sessions", "1"];
    const dry = await run(...over, "--dry-run");
    expect(dry).toMatchObject({ exitCode: 0, stderr: "" });
    expect(dry.stdout.split("\n").at(-1)).toMatch(
      /^1 would be archived, 0 would be purged, 1 passed over\.$/,
    );
    expect(objectsOf(await run("sessions", "list", "--scope", scope, "--json"))).toHaveLength(3);
    const done = objectsOf(await run(...over, "--json"));
    expect(done).toMatchObject([{ archived: 1, purged: 0, skippedTotal: 1 }]);
    expect((await run("prune", "--scope", scope, "--older-than", "30d")).stdout).toBe(
      "0 archived, 0 purged, 0 passed over.",
    );
  });
});

describe("a call that cannot be understood ends with 2", () => {
  it.each([
    [["sessions"], "sessions: it is one of list, show, reset, delete"],
    [["sessions", "dance"], 'sessions: there is no "dance"'],
    [["turns"], "turns: it is one of list, show, cancel, follow"],
    [["sessions", "list", "--state", "asleep"], "not one of reserved, active, archived"],
    [["sessions", "list", "--label", "team"], "--label"],
    [["sessions", "list", "--idle", "soon"], "--idle"],
    [["sessions", "list", "--limit", "few"], "--limit"],
    [["sessions", "list", "extra"], 'unexpected "extra"'],
    [["sessions", "list", "--force"], "sessions list has no option --force"],
    [["sessions", "show"], "name a session by its id, or by"],
    [["sessions", "show", "--scope", "a", "--provider", "echo"], "name a session by its id, or by"],
    [["sessions", "show", "id", "--external-id", "chat"], "not by both"],
    [["sessions", "reset", "id", "--generation", "0"], "--generation"],
    [["turns", "show"], "turns show needs TURN_ID"],
    [["turns", "list", "--since", "yesterday"], "--since"],
    [["turns", "list", "--session", "a", "--external-id", "b"], "--session"],
    [["turns", "list", "--provider", "echo"], "--external-id"],
    [["prune"], "prune needs --older-than or --max-sessions"],
    [["prune", "--older-than", "0d"], "--older-than"],
    [["prune", "--max-sessions", "0"], "--max-sessions"],
  ])("%j", async (words, reason) => {
    const { exitCode, stdout, stderr } = await run(...words);
    expect([exitCode, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(reason);
    expect(stderr).toContain("--help");
  });
});

it("says whose token is not allowed to, and that a token is not known", async () => {
  const id = await reserved("chat");
  const call = (token: string) =>
    runCommand(broker, ["sessions", "delete", id], { SESSION_BROKER_TOKEN: token });
  expect(await call(broker.token)).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("the token of SESSION_BROKER_TOKEN does not allow it"),
  });
  expect(await call("wrong")).toMatchObject({
    exitCode: 1,
    stderr: expect.stringContaining("does not know the token of SESSION_BROKER_TOKEN"),
  });
});

it("reaches the broker by its address as well, and says that none answers", async () => {
  await reserved("chat");
  const list = ["sessions", "list", "--json", "--scope", scope];
  expect(objectsOf(await run(...list, "--broker", broker.url))).toHaveLength(1);
  const gone = await run(...list, "--broker", "unix:/nowhere.sock");
  expect(gone).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("cannot be reached") });
});
