/**
 * Words that occur nowhere else, as prompt, answer, token, key and native id,
 * through broker and adapter, in success and in failure: none of them is in a
 * log line, or in a metric.
 */
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { request as httpRequest } from "node:http";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { reasonOf } from "../support/answers.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

const fixture = (name: string) => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
const canary = (what: string) => `canary-${what}-${randomBytes(8).toString("hex")}`;
const words = {
  prompt: canary("prompt"),
  answer: canary("answer"),
  token: canary("token"),
  "wrong token": canary("wrong"),
  "key of the agent": canary("key"),
  "native id": canary("native"),
};
const { prompt, answer } = words;
const nativeId = words["native id"];

const program = [process.execPath, fixture("fake-program.mjs")];
const jsonLines = { text: "text", nativeId: "id", error: "error", end: "end" };
const environment = { AGENT_KEY: words["key of the agent"] };
const command = (first: readonly string[]) => ({
  first,
  resumed: [...first, "--", "{native_id}"],
  environment,
  jsonLines,
});
const config = JSON.stringify({
  providers: [
    { id: "program", timeout: "5s", silenceTimeout: "2s", command: command(program) },
    { id: "missing", command: command(["/nowhere/agent"]) },
    { id: "claude", claude: { executable: fixture("fake-claude.mjs"), environment } },
  ],
  credentials: [
    {
      name: "caller",
      role: "ROLE_ADMIN",
      tokenSha256: createHash("sha256").update(words.token).digest("hex"),
    },
  ],
});

/** What the program does, after it has been told the prompt. */
const does = (...actions: readonly (readonly [string, unknown?])[]) =>
  `${prompt}\n${JSON.stringify(actions)}`;
const begins = ["json", { id: nativeId, text: answer }] as const;
/** How turns end, and what the program does for it. */
const kinds: Readonly<
  Record<string, { readonly text: string; readonly ending: string; readonly provider?: string }>
> = {
  success: { text: does(begins, ["json", { end: true }]), ending: "completed" },
  "an error that it tells": {
    text: does(begins, ["json", { error: `${answer} ${prompt}` }]),
    ending: "failed",
  },
  "a crash": {
    text: does(begins, ["err", `${answer} ${prompt} ${nativeId}\n`], ["exit", 3]),
    ending: "failed",
  },
  "no ending": { text: does(begins, ["exit", 0]), ending: "failed" },
  "output that is no JSON": { text: does(["out", `${answer} {${prompt}\n`], ["exit", 0]), ending: "failed" },
  "a native id that is none": {
    text: does(["json", { id: `--${nativeId} ${prompt}` }], ["json", { end: true }]),
    ending: "completed",
  },
  silence: { text: does(begins, ["hang"]), ending: "failed" },
  "too much output": { text: does(["out", answer], ["flood", 33], ["exit", 0]), ending: "failed" },
  "no executable": { text: prompt, ending: "failed", provider: "missing" },
  "another agent": { text: prompt, ending: "completed", provider: "claude" },
};

describe.each([
  ["info", Object.keys(words)],
  ["debug", Object.keys(words).filter((what) => what !== "native id")],
])("at level %s", (level, kept) => {
  let broker: TestBroker;
  let client: BrokerClient;
  let adapter: string;

  beforeAll(async () => {
    broker = await TestBroker.start({
      config,
      metrics: true,
      environment: { SESSION_BROKER_LOG_LEVEL: level },
    });
    client = broker.client("connect-h2", words.token);
    adapter = await broker.startAdapter();
  });

  afterAll(() => broker.close());

  const key = (externalId: string, provider = "program") => ({ scope: "acme", externalId, provider });
  const byKey = (...names: Parameters<typeof key>) => ({ case: "key" as const, value: key(...names) });

  async function post(
    path: string,
    body: unknown,
    token = words.token,
    headers: Record<string, string> = {},
  ) {
    const response = await fetch(`${adapter}${path}`, {
      method: "POST",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });
    return { status: response.status, text: await response.text() };
  }

  it.each(Object.entries(kinds))("turns: %s", async (name, { text, ending, provider = "program" }) => {
    const turn = dispatchTurn(client, text, { target: byKey(name, provider) });
    const events = await turn.ended;
    expect(events.at(-1)?.event.case).toBe(ending);
    const messages = [{ role: "user", content: text }];
    const headers = { "x-session-broker-key": name };
    for (const stream of [false, true]) {
      const { text: answered } = await post(
        "/v1/chat/completions",
        { model: provider, messages, stream },
        words.token,
        headers,
      );
      if (name === "success") expect(answered).toContain(answer);
    }
  });

  it("turns that are cancelled, or whose client leaves", async () => {
    const hanging = does(begins, ["hang"]);
    const turn = dispatchTurn(client, hanging, { target: byKey("cancelled") });
    await turn.event("textDelta");
    await client.cancelTurn({ turnId: turn.turnId });
    expect((await turn.ended).at(-1)?.event.case).toBe("cancelled");
    const request = httpRequest(`${adapter}/v1/chat/completions`, {
      method: "POST",
      headers: { authorization: `Bearer ${words.token}`, "content-type": "application/json" },
    });
    request.on("error", () => {});
    request.end(
      JSON.stringify({ model: "program", stream: true, messages: [{ role: "user", content: hanging }] }),
    );
    const [response] = await once(request, "response");
    await once(response, "data");
    request.destroy();
  });

  it("calls that are refused", async () => {
    const wrong = broker.client("connect-h2", words["wrong token"]);
    expect(await reasonOf(wrong.reserve({ key: key(prompt) }))).toContain("Unauthenticated");
    expect(await reasonOf(client.reserve({ key: { ...key("a"), scope: `NOT ${prompt}` } }))).toContain(
      "INVALID_FIELD",
    );
    expect(await reasonOf(client.reserve({ key: key("a", "canary") }))).not.toBe("none");
    const { session } = await client.reserve({ key: key("bound") });
    const ofSession = { case: "sessionId" as const, value: session?.sessionId ?? "" };
    const bind = { nativeId, expectedGeneration: 9, expectedNativeId: nativeId };
    expect(await reasonOf(client.bind({ selector: ofSession, ...bind }))).not.toBe("none");
    const raw = (path: string, body: string, type = "application/json") =>
      fetch(`${broker.url}/sessionbroker.v1.SessionBroker/${path}`, {
        method: "POST",
        headers: { authorization: `Bearer ${words.token}`, "content-type": type },
        body,
      }).then(({ status }) => status);
    expect(await raw("Reserve", `{"${prompt}": "${answer}"`)).toBe(400);
    expect(await raw("Reserve", JSON.stringify({ [prompt]: answer }))).toBe(400);
    expect(await raw("Reserve", prompt, "application/proto")).toBeGreaterThan(399);
    expect(await raw(prompt, "{}")).toBe(404);
    const input = [{ part: { case: "text" as const, value: prompt.repeat(200_000) } }];
    expect(await reasonOf(client.dispatch({ target: byKey("large"), input }))).not.toBe("none");
  });

  it("requests that are refused", async () => {
    const messages = [{ role: "user", content: prompt }];
    expect((await post("/v1/chat/completions", `{"${prompt}`)).status).toBe(400);
    expect((await post("/v1/chat/completions", { model: prompt, messages })).status).toBeGreaterThan(399);
    expect(
      (await post("/v1/chat/completions", { model: "program", messages: [{ role: prompt }] })).status,
    ).toBe(400);
    expect(
      (await post("/v1/chat/completions", { model: "program", messages }, words["wrong token"])).status,
    ).toBe(401);
    expect(
      (await post("/v1/responses", { model: "program", input: prompt, previous_response_id: nativeId }))
        .status,
    ).toBeGreaterThan(399);
    expect((await post(`/v1/${prompt}?token=${words.token}`, {})).status).toBe(404);
    expect((await post("/v1/messages", { model: "program", max_tokens: 5, messages })).status).toBeLessThan(
      600,
    );
  });

  it("leave nothing in the metrics", async () => {
    for (const url of [broker.metricsUrl, `${adapter}/metrics`]) {
      const text = await (await fetch(url)).text();
      expect(text).toContain("session_broker_");
      expect(text).not.toContain("canary-");
    }
  });

  it("leave nothing in the log, over the death of the broker too", { timeout: 60_000 }, async () => {
    const turn = dispatchTurn(client, does(begins, ["hang"]), { target: byKey("interrupted") });
    await turn.event("textDelta");
    await broker.kill("SIGKILL");
    const body = { model: "program", messages: [{ role: "user", content: prompt }] };
    expect((await post("/v1/chat/completions", body)).status).toBeGreaterThan(499);
    await broker.start();
    await expect
      .poll(() => reasonOf(client.getTurn({ turnId: turn.turnId })), { timeout: 20_000 })
      .toBe("none");
    process.kill(broker.pid, "SIGHUP");
    await expect.poll(() => broker.output.join(""), { timeout: 20_000 }).toContain("was read again");
    await broker.kill("SIGTERM");

    const log = broker.output.join("");
    const endings = log.split("\n").filter((line) => line.includes('"turn ended"'));
    expect(endings.length).toBeGreaterThan(3 * Object.keys(kinds).length);
    const completed = endings.map((line) => JSON.parse(line)).find(({ ending }) => ending === "COMPLETED");
    for (const field of ["queueMs", "firstTextMs", "totalMs"]) expect(completed[field]).toBeTypeOf("number");
    // The adapter has said that it could not reach the broker.
    expect(log).toContain("session-broker-openai");
    const told = (what: string) =>
      log.split("\n").filter((line) => line.includes(words[what as keyof typeof words]));
    expect(Object.fromEntries(kept.map((what) => [what, told(what)]))).toEqual(
      Object.fromEntries(kept.map((what) => [what, []])),
    );
  });
});
