/**
 * One turn as one request.
 *
 *     /responses ──404, 405 or 501──▶ /chat/completions
 *         └───────────┬───────────────────┘
 *                  stream ──its terminal record──▶ completed
 *                     └─────anything else────────▶ failed
 */
import { randomUUID } from "node:crypto";
import type { ProviderEvent, ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import {
  allowedMs,
  type Failure,
  failedOutcome,
  failureOf,
  faultOf,
  internalFailure,
  RequestError,
  stoppedOutcome,
} from "../ending.js";
import type { OutputLimits } from "../lines.js";
import { SilenceError, settlesWithin } from "../process.js";
import { StopSwitch } from "../stop-switch.js";
import { type AnswerReader, readerOf } from "./events.js";
import { classifyError, errorOf, type ServiceError } from "./failures.js";
import { type ServiceResponse, send, UnreachableError } from "./http.js";
import { bodyOf } from "./input.js";
import { type Api, headersOf, type Service, withoutKey } from "./service.js";
import { EventDecoder } from "./stream.js";

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
class RefusedError extends Error {
  constructor(readonly refusal: ServiceError) {
    super(refusal.message);
  }
}

const mostErrorBytes = 64 * 1024;
const missing = [404, 405, 501];

/** Runs the turn. Never throws; the connection is closed before `end` is given out. */
export async function* runTurn(settings: RunSettings, turn: ProviderTurn): AsyncGenerator<ProviderEvent> {
  const stop = new StopSwitch([turn.signal, settings.closing], allowedMs(settings, turn));
  const connection = new AbortController();
  stop.attach(() => connection.abort());
  let response: ServiceResponse | undefined;
  let reader: AnswerReader | undefined;
  let failure: Failure | undefined;
  try {
    connection.signal.throwIfAborted();
    checkKey(settings.service);
    const model = modelOf(settings, turn);
    const opened = await open(settings, turn, model, connection.signal);
    response = opened.response;
    reader = readerOf(opened.api);
    yield { kind: "started", nativeId: turn.binding.nativeId ?? randomUUID(), resumed: false, warm: false };
    yield* readAnswer(response, reader, settings);
  } catch (error) {
    failure = failureOfError(error, settings);
  } finally {
    stop.dispose();
    response?.close();
    connection.abort();
  }
  const stopped = stop.reason === undefined ? undefined : stoppedOutcome(stop.reason, settings, turn);
  yield { kind: "end", outcome: judge(reader, failure, stopped, settings.service) };
}

/** The connection may break after the terminal record; the answer is whole all the same. */
function judge(
  reader: AnswerReader | undefined,
  broken: Failure | undefined,
  stopped: TurnOutcome | undefined,
  service: Service,
): TurnOutcome {
  const usage = reader?.usage === undefined ? {} : { usage: reader.usage };
  if (reader?.finish !== undefined && reader.failure === undefined) {
    return {
      status: "completed",
      text: reader.text,
      finishReason: reader.finish,
      ...(reader.model === undefined ? {} : { model: reader.model }),
      ...usage,
    };
  }
  if (stopped !== undefined) return { ...stopped, ...usage };
  const failure = reader?.failure ?? broken ?? cutOff("it ended");
  return { ...failedOutcome({ ...failure, message: withoutKey(failure.message, service) }), ...usage };
}

async function open(
  settings: RunSettings,
  turn: ProviderTurn,
  model: string,
  signal: AbortSignal,
): Promise<{ readonly api: Api; readonly response: ServiceResponse }> {
  const { service, known } = settings;
  const ask = (api: Api) => post(settings, api, bodyOf(api, model, turn), signal);
  const api = service.api ?? known.api;
  if (api !== undefined) return { api, response: await ask(api) };
  try {
    const response = await ask("responses");
    known.api = "responses";
    return { api: "responses", response };
  } catch (error) {
    if (!(error instanceof RefusedError && isMissing(error.refusal))) throw error;
  }
  const response = await ask("chat");
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

async function* readAnswer(
  { body }: ServiceResponse,
  reader: AnswerReader,
  settings: RunSettings,
): AsyncGenerator<ProviderEvent> {
  const decoder = new EventDecoder(settings.limits);
  while (!reader.isOver) {
    // What still comes after the terminal record is not waited for as long.
    const waitMs = reader.finish === undefined ? settings.silenceTimeoutMs : settings.lingerMs;
    const { done, value } = await patiently(body.next(), waitMs);
    if (done === true) return;
    for (const data of decoder.push(value)) yield* reader.read(data);
  }
}

/** Throws SilenceError. */
async function patiently<T>(promise: Promise<T>, waitMs: number): Promise<T> {
  promise.catch(() => {});
  if (await settlesWithin(promise, waitMs)) return promise;
  throw new SilenceError(`nothing for ${waitMs} ms`);
}

function failureOfError(error: unknown, settings: RunSettings): Failure {
  const fault = faultOf(error, settings);
  if (fault !== undefined) return fault;
  if (error instanceof MissingKeyError) return failureOf("AUTH", error.message, { modelNotAsked: true });
  if (error instanceof RefusedError) return classifyError(error.refusal);
  if (error instanceof UnreachableError) {
    const message = `The model's service at ${settings.service.baseUrl} cannot be reached: ${error.message}`;
    return failureOf("UNAVAILABLE", message, { retryable: true, modelNotAsked: true });
  }
  const { code } = (error ?? {}) as NodeJS.ErrnoException;
  return code === undefined ? internalFailure(error) : cutOff(code);
}

function cutOff(how: string): Failure {
  return failureOf("PROVIDER_ERROR", `The answer of the model's service broke off: ${how}.`, {
    retryable: true,
  });
}

class MissingKeyError extends Error {}

function checkKey({ keyVariable, key }: Service): void {
  if (keyVariable === undefined || key !== undefined) return;
  throw new MissingKeyError(`The environment variable ${keyVariable} holds no key.`);
}

function modelOf({ models }: RunSettings, { model }: ProviderTurn): string {
  const chosen = model ?? models[0];
  if (chosen !== undefined) return chosen;
  throw new RequestError(
    "No model is named, neither by the request nor in the configuration of the provider.",
  );
}
