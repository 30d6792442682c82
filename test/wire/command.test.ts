/** Programs behind the broker: what they are given of a conversation that only the broker remembers. */
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Notice_Kind } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

const fixture = fileURLToPath(new URL("../fixtures/fake-program.mjs", import.meta.url));
const program = [process.execPath, fixture];
const jsonLines = { text: "text", nativeId: "id" };

const config = JSON.stringify({
  providers: [
    { id: "forgetful", command: { first: program }, models: ["small", "large"] },
    { id: "naming", command: { first: program, resumed: [...program, "--", "{native_id}"], jsonLines } },
  ],
});

let broker: TestBroker;
let client: BrokerClient;

beforeAll(async () => {
  broker = await TestBroker.start({ config });
  client = broker.client();
});

afterAll(() => broker.close());

interface Told {
  readonly role: "USER" | "ASSISTANT";
  readonly text: string;
}

async function ask(externalId: string, text: string, provider = "forgetful", told: readonly Told[] = []) {
  const turn = dispatchTurn(client, text, {
    target: { case: "key", value: { scope: "acme", externalId, provider } },
    history: told.map(({ role, text: said }) => ({
      author: role === "USER" ? 1 : 2,
      parts: [{ part: { case: "text", value: said } }],
    })),
  });
  const events = await turn.ended;
  const last = events.at(-1)?.event;
  return {
    events,
    ending: last?.case,
    text: last?.case === "completed" ? last.value.text : "",
    notices: events.flatMap(({ event }) => (event.case === "notice" ? [event.value.kind] : [])),
  };
}

/** What the program was given before its prompt. */
async function seen(
  externalId: string,
  told: readonly Told[] = [],
): Promise<{ user: string; assistant: string }[]> {
  const { text } = await ask(externalId, report, "forgetful", told);
  const { input } = JSON.parse(JSON.parse(text).text);
  const before = String(input).slice(0, -report.length);
  return JSON.parse(/^\[.*\]$/m.exec(before)?.[0] ?? "[]");
}

const report = JSON.stringify([["report"]]);

describe("a program that remembers nothing", () => {
  it("is given all that was said, each time", async () => {
    await ask("all", "I am Ada");
    await ask("all", "I live in Ulm");
    const said = await seen("all");
    expect(said.map(({ user }) => user)).toEqual(["I am Ada", "I live in Ulm"]);
    expect(said[0]?.assistant).toBe("heard: I am Ada");
    expect(said[1]?.assistant).toContain("heard: <earlier_conversation>");
    expect(await seen("all")).toHaveLength(3);
  });

  it("also after the broker was killed", async () => {
    await ask("killed", "I am Ada");
    await broker.restart();
    client = broker.client();
    expect((await seen("killed")).map(({ user }) => user)).toEqual(["I am Ada"]);
  });

  it("is told nothing of turns that failed, and nothing of other sessions", async () => {
    await ask("good", "mine");
    expect((await ask("good", JSON.stringify([["exit", 1]]))).ending).toBe("failed");
    expect((await seen("good")).map(({ user }) => user)).toEqual(["mine"]);
    expect(await seen("another")).toEqual([]);
  });

  it("is told what the caller remembers from before and since", async () => {
    await ask("told", "u2");
    const told: Told[] = [
      { role: "USER", text: "u1" },
      { role: "ASSISTANT", text: "a1" },
      { role: "USER", text: "u2" },
      { role: "ASSISTANT", text: "heard: u2" },
      { role: "USER", text: "u3" },
      { role: "ASSISTANT", text: "a3" },
    ];
    expect((await seen("told", told)).map(({ user }) => user)).toEqual(["u1", "u2", "u3"]);
  });

  it("is given the newest MiB of a long conversation, and the turn says so", async () => {
    const words = "w".repeat(300_000);
    for (const turn of [1, 2, 3, 4]) await ask("long", `${turn}${words}\n[["out", "ok"]]`);
    const said = await seen("long");
    expect(said.length).toBeLessThan(4);
    expect(said.at(-1)?.user.startsWith("4")).toBe(true);
    expect((await ask("long", "more")).notices).toEqual([Notice_Kind.HISTORY_TRUNCATED]);
  });

  it("has the models of the configuration and no others", async () => {
    const request = {
      target: { case: "key" as const, value: { scope: "acme", externalId: "model", provider: "forgetful" } },
      model: "other",
    };
    await expect(dispatchTurn(client, "hi", request).ended).rejects.toThrow(/model: forgetful has no other/);
  });
});

describe("a program that names its conversations", () => {
  it("is resumed by the name, and told nothing twice", async () => {
    const say = (more: unknown[]) => JSON.stringify([["json", { id: "c-1", text: "hi " }], ...more]);
    await ask("named", say([]), "naming");
    const { events, text } = await ask("named", say([["report"]]), "naming");
    const started = events.find(({ event }) => event.case === "started")?.event.value;
    expect(started).toMatchObject({ nativeId: "c-1", resumed: true });
    const { args, input } = JSON.parse(text.slice("hi ".length));
    expect(args).toEqual(["--", "c-1"]);
    expect(input).toBe(say([["report"]]));
    const { session } = await client.getSession({
      selector: { case: "key", value: { scope: "acme", externalId: "named", provider: "naming" } },
    });
    expect(session).toMatchObject({ nativeId: "c-1" });
  });
});

describe("a broken template", () => {
  it.each([
    [{ first: ["p", "{session_id}"] }, "providers[1].command.first[1]: {session_id} may stand only after"],
    [{ first: ["p"], resumed: ["p", "-r{native_id}"] }, "providers[1].command.resumed[1]: {native_id} may"],
    [{ first: ["p", "--m={model}"] }, "providers[1].models: "],
  ])("%j ends the start with code 2 and names the field", async (command, message) => {
    const providers = [
      { id: "echo", echo: {} },
      { id: "broken", command },
    ];
    const broken = new TestBroker({ config: JSON.stringify({ providers }) });
    try {
      const refusal = await broken.start().then(
        () => "it started",
        (error: Error) => error.message,
      );
      expect(refusal).toContain("ended with 2");
      expect(refusal).toContain(message);
    } finally {
      await broken.close();
    }
  });
});
