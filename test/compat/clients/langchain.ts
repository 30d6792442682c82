/** LangChain, with both of OpenAI's APIs. */
import { type AIMessageChunk, type BaseMessage, HumanMessage } from "@langchain/core/messages";
import { ChatOpenAI } from "@langchain/openai";
import { APIError } from "openai";
import type { Chat, ChatOptions, Failure, RealClient, Told } from "./client.js";

export const langchainClients: readonly RealClient[] = [
  { name: "LangChain", responses: false },
  { name: "LangChain with Responses", responses: true },
].map(({ name, responses }) => ({
  name,
  failures: { unknownModel: "NotFoundError", badToken: "AuthenticationError" },
  failureOf,
  open: (options: ChatOptions) => new LangChainChat(options, responses),
}));

class LangChainChat implements Chat {
  readonly #model: ChatOpenAI;
  #messages: BaseMessage[] = [];

  constructor({ baseURL, token, model, headers }: ChatOptions, useResponsesApi: boolean) {
    const configuration = { baseURL, defaultHeaders: headers };
    this.#model = new ChatOpenAI({ model, apiKey: token, maxRetries: 0, useResponsesApi, configuration });
  }

  async say(text: string, { stream = false, alone = false } = {}): Promise<Told> {
    const asked = new HumanMessage(text);
    const messages = alone ? [asked] : [...this.#messages, asked];
    const { answer, pieces } = await (stream ? this.#stream(messages) : this.#invoke(messages));
    this.#messages.push(asked, answer);
    const { input_tokens: inputTokens = 0, output_tokens: outputTokens = 0 } = answer.usage_metadata ?? {};
    return { text: answer.text, pieces, inputTokens, outputTokens };
  }

  async #invoke(messages: BaseMessage[]) {
    return { answer: await this.#model.invoke(messages), pieces: 1 };
  }

  async #stream(messages: BaseMessage[]) {
    const chunks: AIMessageChunk[] = [];
    for await (const chunk of await this.#model.stream(messages)) chunks.push(chunk);
    const answer = chunks.reduce((whole, chunk) => whole.concat(chunk));
    return { answer, pieces: chunks.filter(({ text }) => text !== "").length };
  }
}

/** Errors are those of the openai package beneath it. */
function failureOf(error: unknown): Failure {
  if (!(error instanceof APIError)) throw error;
  return { type: error.constructor.name, status: error.status };
}
