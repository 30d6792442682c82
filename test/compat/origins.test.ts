/** Where requests name their conversations: as shipped, as configured, and as far as the credential may. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, it } from "vitest";
import { shippedOrigins } from "../../src/adapters/openai/origin-table.js";
import { TestBroker } from "../support/broker.js";

const gatewayToken = "token-of-the-gateway";

let broker: TestBroker;
let adapter: string;

beforeAll(async () => {
  broker = await TestBroker.start({
    config: JSON.stringify({
      providers: [{ id: "echo", echo: {} }],
      origins: [
        { header: "x-my-chat", scope: "my-chat", history: "HISTORY_NONE" },
        { field: "prompt_cache_key", scope: "prompt-cache-key" },
        { header: "x-session-id", off: true },
      ],
      credentials: [
        {
          name: "gateway",
          tokenSha256: createHash("sha256").update(gatewayToken).digest("hex"),
          role: "ROLE_DISPATCH",
          scopes: ["acme", "acme/*"],
          origins: ["x-openwebui-chat-id"],
        },
      ],
    }),
  });
  adapter = await broker.startAdapter();
});

afterAll(() => broker?.close());

async function ask(fields: object, headers: Record<string, string> = {}, token = broker.token) {
  const answer = await fetch(`${adapter}/v1/responses`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/json", ...headers },
    body: JSON.stringify({ model: "echo", input: "hi", ...fields }),
  });
  const body = (await answer.json()) as { error?: { param: string; message: string } };
  return { status: answer.status, param: body.error?.param, turnId: turnOf(answer) };
}

function turnOf(answer: Response): string {
  return answer.headers.get("x-session-broker-turn-id") ?? "";
}

async function keyOf(turnId: string) {
  const { turn } = await broker.client().getTurn({ turnId });
  return { scope: turn?.key?.scope, externalId: turn?.key?.externalId };
}

it.each([
  [{}, { "x-my-chat": "a" }, "my-chat", "a"],
  [{ prompt_cache_key: "b" }, {}, "prompt-cache-key", "b"],
  [{ metadata: { session_id: "c" } }, {}, "metadata-session-id", "c"],
  [{}, { "x-my-chat": "d", "x-chat-id": "d" }, "my-chat", "d"],
])("%j and %j are of %s: %s", async (fields, headers, scope, externalId) => {
  const { turnId } = await ask(fields, headers);
  expect(await keyOf(turnId)).toEqual({ scope, externalId });
});

it("what is turned off, or was never on, names nothing", async () => {
  const { turnId } = await ask({ user: "u" }, { "x-session-id": "s", "x-session-affinity": "s" });
  expect(await keyOf(turnId)).toMatchObject({ scope: "history" });
});

it("a credential names its conversations where it may, below its own scope", async () => {
  const headers = { "x-openwebui-chat-id": "chat", "x-session-broker-key": "of another" };
  const { turnId } = await ask({}, headers, gatewayToken);
  expect(await keyOf(turnId)).toEqual({ scope: "acme/openwebui", externalId: "chat" });
});

it.each([["conversation"], ["previous_response_id"]])(
  "and is told that %s is not one of these places",
  async (field) => {
    expect(await ask({ [field]: "resp_x" }, {}, gatewayToken)).toMatchObject({ status: 400, param: field });
  },
);

it("docs/openai.md names every header and field that is shipped", () => {
  const page = readFileSync(new URL("../../docs/openai.md", import.meta.url), "utf8");
  expect(shippedOrigins.filter(({ source }) => !page.includes(`\`${source}\``))).toEqual([]);
});
