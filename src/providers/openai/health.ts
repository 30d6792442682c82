/** Whether the service answers, asked by the list of its models. */
import type { ProviderHealth } from "../../turns/provider.js";
import { settlesWithin } from "../process.js";
import { classifyError, errorOf } from "./failures.js";
import { type ServiceResponse, send } from "./http.js";
import { asList, asObject, asString, parseObject } from "./json.js";
import { headersOf, type Service, withoutKey } from "./service.js";

const lifetimeMs = 60_000;
const timeoutMs = 10_000;
const mostBytes = 4 * 1024 * 1024;

export interface ModelList extends ProviderHealth {
  /** Undefined if the service does not say. */
  readonly models?: readonly string[];
  /** HTTP status of a refusal. */
  readonly status?: number;
}

/** Asks the service; an answer counts for a minute. */
export class ModelsProbe {
  #asked: { readonly until: number; readonly answer: Promise<ModelList> } | undefined;

  constructor(private readonly service: Service) {}

  ask(): Promise<ModelList> {
    const now = performance.now();
    if (this.#asked === undefined || now >= this.#asked.until) {
      this.#asked = { until: now + lifetimeMs, answer: askModels(this.service) };
    }
    return this.#asked.answer;
  }
}

async function askModels(service: Service): Promise<ModelList> {
  const { keyVariable, key, baseUrl } = service;
  if (keyVariable !== undefined && key === undefined) {
    return { available: false, detail: `The environment variable ${keyVariable} holds no key.` };
  }
  const stop = new AbortController();
  const answer = fetchModels(service, stop.signal);
  answer.catch(() => {});
  try {
    if (await settlesWithin(answer, timeoutMs)) return await answer;
    return { available: false, detail: `${baseUrl} does not answer.` };
  } catch (error) {
    const reason = withoutKey(error instanceof Error ? error.message : String(error), service);
    return { available: false, detail: `${baseUrl} cannot be reached: ${reason}` };
  } finally {
    stop.abort();
  }
}

async function fetchModels(service: Service, signal: AbortSignal): Promise<ModelList> {
  const { baseUrl } = service;
  const response = await send({
    method: "GET",
    url: new URL(`${baseUrl}/models`),
    headers: { ...headersOf(service), accept: "application/json" },
    signal,
  });
  const text = await readText(response);
  const { status, headers } = response;
  // Not every service has a list.
  if (status === 404 || status === 405)
    return { available: true, detail: `${baseUrl}, which lists no models` };
  if (status !== 200) {
    const { message } = classifyError(errorOf(status, headers, text, Date.now()));
    return { available: false, detail: withoutKey(message, service), status };
  }
  const data = parseObject(text)?.data;
  const models = asList(data).flatMap((model) => asString(asObject(model)?.id) ?? []);
  if (!Array.isArray(data)) return { available: true, detail: `${baseUrl}, which lists no models` };
  return { available: true, detail: `${baseUrl}, with ${models.length} models`, models };
}

async function readText(response: ServiceResponse): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for (;;) {
    const { done, value } = await response.body.next();
    if (done === true) break;
    bytes += value.length;
    if (bytes > mostBytes) throw new Error("its list of models is too long");
    chunks.push(value);
  }
  return Buffer.concat(chunks).toString();
}
