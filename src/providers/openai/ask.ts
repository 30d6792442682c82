/**
 * Asking the service: with the interface that it has, and with as much of what
 * was said as its model has room for.
 *
 *     /responses ──404, 405 or 501──▶ /chat/completions
 */
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderTurn } from "../../turns/provider.js";
import type { OutputLimits } from "../lines.js";
import { SilenceError } from "../output-wait.js";
import { settlesWithin } from "../process.js";
import { classifyError, errorOf, type ServiceError } from "./failures.js";
import { type ServiceResponse, send } from "./http.js";
import { bodyOf } from "./input.js";
import { type Api, headersOf, type Service } from "./service.js";

export interface RunSettings {
  readonly service: Service;
  readonly models: readonly string[];
  readonly timeoutMs: number;
  readonly silenceTimeoutMs: number;
  /** How long usage is waited for after the terminal record of an answer. */
  readonly lingerMs: number;
  readonly limits: OutputLimits;
  /** The interface that the service turned out to have, for as long as this process lives. */
  readonly known: { api: Api | undefined };
  /** Aborted when the provider closes. */
  readonly closing: AbortSignal;
}

/** The service refused the request. */
export class RefusedError extends Error {
  constructor(readonly refusal: ServiceError) {
    super(refusal.message);
  }
}

const mostErrorBytes = 64 * 1024;
const missing = [404, 405, 501];

export interface Opened {
  readonly api: Api;
  readonly response: ServiceResponse;
}

/** With as much of what was said as the model has room for: half of it, and half of that, if it refuses. */
export async function ask(
  settings: RunSettings,
  turn: ProviderTurn,
  model: string,
  signal: AbortSignal,
): Promise<Opened & { readonly dropped: number }> {
  for (let unseen = turn.unseen; ; unseen = unseen.slice(Math.ceil(unseen.length / 2))) {
    try {
      const opened = await open(settings, { ...turn, unseen }, model, signal);
      return { ...opened, dropped: turn.unseen.length - unseen.length };
    } catch (error) {
      if (unseen.length === 0 || !isOverflow(error)) throw error;
    }
  }
}

function isOverflow(error: unknown): boolean {
  return (
    error instanceof RefusedError && classifyError(error.refusal).code === TurnErrorCode.CONTEXT_OVERFLOW
  );
}

async function open(
  settings: RunSettings,
  turn: ProviderTurn,
  model: string,
  signal: AbortSignal,
): Promise<Opened> {
  const { service, known } = settings;
  const postTo = (api: Api) => post(settings, api, bodyOf(api, model, turn), signal);
  const api = service.api ?? known.api;
  if (api !== undefined) return { api, response: await postTo(api) };
  try {
    const response = await postTo("responses");
    known.api = "responses";
    return { api: "responses", response };
  } catch (error) {
    if (!(error instanceof RefusedError && isMissing(error.refusal))) throw error;
  }
  const response = await postTo("chat");
  known.api = "chat";
  return { api: "chat", response };
}

/** A service says in the same way that it has no such model. */
function isMissing({ status = 0, code = "" }: ServiceError): boolean {
  return missing.includes(status) && code !== "model_not_found";
}

/** The stream that answers. Throws RefusedError, UnreachableError, SilenceError, or what broke the connection. */
async function post(
  settings: RunSettings,
  api: Api,
  body: string,
  signal: AbortSignal,
): Promise<ServiceResponse> {
  const path = api === "responses" ? "/responses" : "/chat/completions";
  const response = await patiently(
    send({
      method: "POST",
      url: new URL(settings.service.baseUrl + path),
      headers: {
        ...headersOf(settings.service),
        "content-type": "application/json",
        "content-length": String(Buffer.byteLength(body)),
        accept: "text/event-stream",
      },
      body,
      signal,
    }),
    settings.silenceTimeoutMs,
  );
  const { status, headers } = response;
  if (status === 200 && !headers["content-type"]?.startsWith("application/json")) return response;
  const text = await readError(response, settings);
  if (status !== 200) throw new RefusedError(errorOf(status, headers, text, Date.now()));
  throw new RefusedError({ status: 502, message: "it did not stream its answer" });
}

async function readError(response: ServiceResponse, settings: RunSettings): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for (;;) {
      const { done, value } = await patiently(response.body.next(), settings.silenceTimeoutMs);
      if (done === true || bytes > mostErrorBytes) break;
      chunks.push(value);
      bytes += value.length;
    }
  } catch (error) {
    if (error instanceof SilenceError) throw error;
    // What has come of it has to do.
  } finally {
    response.close();
  }
  return Buffer.concat(chunks).subarray(0, mostErrorBytes).toString();
}

/** Throws SilenceError. */
export async function patiently<T>(promise: Promise<T>, waitMs: number): Promise<T> {
  promise.catch(() => {});
  if (await settlesWithin(promise, waitMs)) return promise;
  throw new SilenceError(`nothing for ${waitMs} ms`);
}
