import { setImmediate as immediate } from "node:timers/promises";
import { commonDefaults } from "../../src/providers/kind.js";
import { createOpenAiProvider } from "../../src/providers/openai/index.js";
import {
  answerRecords,
  eventsOf,
  ModelService,
  type ServiceCall,
  sendError,
  stream,
} from "../support/model-service.js";
import { describeConformance, type Subject } from "./conformance.js";

async function open(api: "responses" | "chat"): Promise<Subject> {
  const service = await ModelService.start(answer);
  return {
    workspace: "/",
    provider: (settings = {}) =>
      createOpenAiProvider({
        id: "service",
        models: ["model-1"],
        ...commonDefaults,
        service: { baseUrl: service.url, keyVariable: undefined, key: undefined, api },
        ...settings,
      }),
    promptsOf: (said) => JSON.parse(/history=(\[.*\])$/s.exec(said)?.[1] ?? "[]"),
    words: {
      hang: "[[hang]]",
      silent: "[[silent]]",
      flood: "[[flood 2000]]",
      bytes: "[[bytes]]",
      fail: (status) => `[[status ${status}]]`,
      cut: "[[cut]]",
    },
    close: () => service[Symbol.asyncDispose](),
  };
}

/** The model repeats what it was sent, and does what the last prompt says. */
async function answer(call: ServiceCall): Promise<void> {
  const { body, path, response } = call;
  const prompts = (body.input ?? body.messages)
    .filter(({ role }: { readonly role: string }) => role === "user")
    .map(({ content }: { readonly content: unknown }) => textOf(content));
  const last = prompts.at(-1);
  const has = (name: string) => last.includes(`[[${name}]]`);
  const value = (name: string) => Number(new RegExp(`\\[\\[${name} (\\d+)\\]\\]`).exec(last)?.[1] ?? 0);
  if (has("silent")) return;
  if (value("status") > 0) return sendError(call, value("status"), { message: "refused" });
  const text = `turns=${prompts.length} history=${JSON.stringify(prompts)}`;
  const texts =
    value("flood") > 0 ? Array(value("flood")).fill("x".repeat(100)) : (text.match(/.{1,5000}/gsu) ?? []);
  const records = answerRecords(path, { texts });
  if (has("hang") || has("cut")) {
    // All but the last text and what follows it.
    stream(call, ...answerRecords(path, { texts: ["turns="] }).slice(0, 2));
    if (has("cut")) response.destroy();
  } else if (has("bytes")) {
    stream(call);
    for (const byte of Buffer.from(eventsOf(records))) {
      response.write(Buffer.from([byte]));
      await immediate();
    }
    response.end();
  } else {
    stream(call, ...records);
    response.end();
  }
}

function textOf(content: unknown): string {
  if (typeof content === "string") return content;
  return (content as readonly { readonly text?: string }[]).map(({ text }) => text ?? "").join("\n");
}

describeConformance({ name: "a model service, over Responses", skip: false, open: () => open("responses") });
describeConformance({
  name: "a model service, over Chat Completions",
  skip: false,
  open: () => open("chat"),
});
