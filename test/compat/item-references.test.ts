/** Items that a client names instead of sending them again. */
import { createHash, randomUUID } from "node:crypto";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";
import { ScriptedService } from "./scripted-service.js";

const acmeToken = "token-of-acme";
let service: ScriptedService;
let broker: TestBroker;
let baseURL: string;

beforeAll(async () => {
  service = await ScriptedService.start();
  const tokenSha256 = createHash("sha256").update(acmeToken).digest("hex");
  const credentials = [{ name: "acme", tokenSha256, role: "ROLE_DISPATCH", scopes: ["acme", "acme/*"] }];
  broker = await TestBroker.start({
    config: JSON.stringify({ providers: [service.provider], credentials }),
  });
  baseURL = `${await broker.startAdapter()}/v1`;
});

afterAll(async () => {
  await broker?.close();
  await service[Symbol.asyncDispose]();
});

const clientOf = (apiKey: string) => new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const reference = (id: string) => ({ type: "item_reference" as const, id });

function ask(
  input: OpenAI.Responses.ResponseCreateParams["input"] & object,
  headers: Record<string, string> = {},
) {
  const request = { model: "scripted", input };
  return clientOf(broker.token).responses.create(request, { headers }).withResponse();
}

const sessionOf = (response: Response) => response.headers.get("x-session-broker-session-id");

it("stand for what they said, so that a history that names its answers is found", async () => {
  const one = { role: "user" as const, content: `think ${randomUUID()}\nsay hel|lo` };
  const first = await ask([one]);
  const items = first.data.output.map(({ id = "" }) => reference(id));
  expect(items).toHaveLength(2);
  const second = await ask([one, ...items, { role: "user", content: "say bye" }]);
  expect(second.data.output_text).toBe("bye");
  expect(sessionOf(second.response)).toBe(sessionOf(first.response));
});

it("are what a new conversation is given", async () => {
  const one = { role: "user" as const, content: `think ${randomUUID()}\nsay b\nthink c\nsay d` };
  const { data } = await ask([one]);
  const items = data.output.map(({ id = "" }) => reference(id));
  const headers = { "x-session-broker-key": randomUUID() };
  await ask([one, ...items, { role: "user", content: "say bye" }], headers);
  expect(service.asked.at(-1)?.messages).toMatchObject([
    { role: "user", content: one.content },
    { role: "assistant", content: "bd" },
    { role: "user", content: "say bye" },
  ]);
});

it.each(["msg_1", `msg_${randomUUID()}_0`, `fc_${randomUUID()}_0`])(
  "that nobody knows, such as %s, are 404",
  async (id) => {
    const asked = ask([reference(id), { role: "user", content: "hi" }]);
    await expect(asked).rejects.toMatchObject({ status: 404, code: "item_not_found", param: "input[0].id" });
  },
);

it("of another credential are 404", async () => {
  const { data } = await ask([{ role: "user", content: "say hello" }]);
  const [{ id = "" } = {}] = data.output;
  const asked = clientOf(acmeToken).responses.create({
    model: "scripted",
    input: [reference(id), { role: "user", content: "hi" }],
  });
  await expect(asked).rejects.toMatchObject({ status: 404, code: "item_not_found" });
});

it("may as well be sent again, as they came", async () => {
  const one = { role: "user" as const, content: `think ${randomUUID()}\nsay b\nthink c\nsay d` };
  const first = await ask([one]);
  const second = await ask([
    one,
    ...(first.data.output as OpenAI.Responses.ResponseInputItem[]),
    { role: "user", content: "say bye" },
  ]);
  expect(sessionOf(second.response)).toBe(sessionOf(first.response));
});
