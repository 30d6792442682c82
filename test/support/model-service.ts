/** A model service on loopback with OpenAI's interface, which answers as a test says. */
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export interface ServiceCall {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  // biome-ignore lint/suspicious/noExplicitAny: what a provider sends is looked at by the test
  readonly body: any;
  readonly response: ServerResponse;
  /** Resolves when the connection is closed, by either side. */
  readonly closed: Promise<unknown>;
}

export class ModelService implements AsyncDisposable {
  readonly calls: ServiceCall[] = [];
  readonly #server: Server;

  private constructor(answer: (call: ServiceCall) => unknown) {
    this.#server = createServer(async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk);
      const text = Buffer.concat(chunks).toString();
      const call: ServiceCall = {
        method: request.method ?? "",
        path: request.url ?? "",
        headers: request.headers,
        body: text === "" ? undefined : JSON.parse(text),
        response,
        closed: once(response, "close"),
      };
      this.calls.push(call);
      await answer(call);
    });
  }

  static async start(answer: (call: ServiceCall) => unknown): Promise<ModelService> {
    const service = new ModelService(answer);
    service.#server.listen(0, "127.0.0.1");
    await once(service.#server, "listening");
    return service;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}/v1`;
  }

  get paths(): string[] {
    return this.calls.map(({ path }) => path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    this.#server.close();
    await once(this.#server, "close");
  }
}

export function sendError(
  { response }: ServiceCall,
  status: number,
  error: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  const text = typeof error === "string" ? error : JSON.stringify({ error });
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(text);
}

/** The head of a stream, and records in it, without an end. */
export function stream({ response }: ServiceCall, ...records: unknown[]): void {
  if (!response.headersSent) response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(eventsOf(records));
}

export function eventsOf(records: readonly unknown[]): string {
  return records
    .map((record) => `data: ${typeof record === "string" ? record : JSON.stringify(record)}\n\n`)
    .join("");
}

export interface Said {
  readonly texts?: readonly string[];
  readonly reasoning?: readonly string[];
  readonly refusal?: string;
  /** As Chat Completions calls it. Default: stop. */
  readonly finish?: "stop" | "length" | "content_filter";
}

/** The records of a whole answer in the interface that was asked. */
export function answerRecords(path: string, said: Said): unknown[] {
  return path.endsWith("/responses") ? responsesRecords(said) : chatRecords(said);
}

function responsesRecords({ texts = [], reasoning = [], refusal, finish = "stop" }: Said): unknown[] {
  const reason = finish === "length" ? "max_output_tokens" : finish;
  const response = {
    id: "resp_1",
    model: "model-as-answered",
    status: finish === "stop" ? "completed" : "incomplete",
    ...(finish === "stop" ? {} : { incomplete_details: { reason } }),
    usage: {
      input_tokens: 30,
      input_tokens_details: { cached_tokens: 10 },
      output_tokens: 8,
      output_tokens_details: { reasoning_tokens: 3 },
    },
  };
  return [
    { type: "response.created", response: { ...response, status: "in_progress", usage: null } },
    ...reasoning.map((delta) => ({ type: "response.reasoning_summary_text.delta", item_id: "rs_1", delta })),
    ...texts.map((delta) => ({ type: "response.output_text.delta", item_id: "msg_1", delta })),
    ...(refusal === undefined ? [] : [{ type: "response.refusal.delta", item_id: "msg_1", delta: refusal }]),
    { type: finish === "stop" ? "response.completed" : "response.incomplete", response },
  ];
}

function chatRecords({ texts = [], reasoning = [], refusal, finish = "stop" }: Said): unknown[] {
  const chunk = (delta: unknown, finish_reason: string | null = null) => ({
    model: "model-as-answered",
    choices: [{ index: 0, delta, finish_reason }],
  });
  return [
    chunk({ role: "assistant", content: "" }),
    ...reasoning.map((text) => chunk({ reasoning_content: text })),
    ...texts.map((content) => chunk({ content })),
    ...(refusal === undefined ? [] : [chunk({ refusal })]),
    chunk({}, finish),
    {
      model: "model-as-answered",
      choices: [],
      usage: {
        prompt_tokens: 30,
        prompt_tokens_details: { cached_tokens: 10 },
        completion_tokens: 8,
        completion_tokens_details: { reasoning_tokens: 3 },
      },
    },
    "[DONE]",
  ];
}
