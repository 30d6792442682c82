/** Vercel's AI SDK: its provider for any compatible server, and the one for OpenAI's Responses. */
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import {
  APICallError,
  generateText,
  type LanguageModel,
  type ModelMessage,
  streamText,
  type TextStreamPart,
  type ToolSet,
} from "ai";
import { type Chat, type ChatOptions, collect, type Failure, type RealClient } from "./client.js";

const failures = { unknownModel: "AI_APICallError", badToken: "AI_APICallError" };

export const aiSdkClients: readonly RealClient[] = [
  {
    name: "AI SDK, openai-compatible",
    failures,
    failureOf,
    open: (options) => new AiChat(compatibleModel(options)),
  },
  {
    name: "AI SDK, openai with Responses",
    failures,
    failureOf,
    open: (options) => new AiChat(responsesModel(options)),
  },
];

function compatibleModel({ baseURL, token, model, headers }: ChatOptions): LanguageModel {
  const name = "session-broker";
  return createOpenAICompatible({ name, baseURL, apiKey: token, headers, includeUsage: true })(model);
}

function responsesModel({ baseURL, token, model, headers }: ChatOptions): LanguageModel {
  return createOpenAI({ baseURL, apiKey: token, headers })(model);
}

class AiChat implements Chat {
  #messages: ModelMessage[] = [];

  constructor(private readonly model: LanguageModel) {}

  async say(text: string, { stream = false, alone = false } = {}) {
    const asked: ModelMessage = { role: "user", content: text };
    const messages = alone ? [asked] : [...this.#messages, asked];
    const request = { model: this.model, messages, maxRetries: 0 };
    const { told, usage, answered } = await (stream ? this.#stream(request) : this.#generate(request));
    this.#messages.push(asked, ...answered);
    return { ...told, inputTokens: usage.inputTokens ?? 0, outputTokens: usage.outputTokens ?? 0 };
  }

  async #generate(request: Parameters<typeof generateText>[0]) {
    const { text, usage, response } = await generateText(request);
    return { told: { text, pieces: 1 }, usage, answered: response.messages };
  }

  async #stream(request: Parameters<typeof streamText>[0]) {
    // Errors are parts of the stream; without a listener they are printed as well.
    const result = streamText({ ...request, onError: () => {} });
    const told = await collect(texts(result.fullStream));
    return { told, usage: await result.usage, answered: (await result.response).messages };
  }
}

async function* texts(stream: AsyncIterable<TextStreamPart<ToolSet>>): AsyncGenerator<string> {
  for await (const part of stream) {
    if (part.type === "error") throw part.error;
    if (part.type === "text-delta") yield part.text;
  }
}

function failureOf(error: unknown): Failure {
  if (!APICallError.isInstance(error)) throw error;
  return { type: error.name, status: error.statusCode };
}
