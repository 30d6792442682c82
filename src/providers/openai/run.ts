/**
 * One turn as one request.
 *
 *     asked ──refused──▶ failed
 *       └─ stream ──its terminal record──▶ completed
 *             └─────anything else────────▶ failed
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
  stoppedOutcome,
} from "../ending.js";
import { InputError } from "../input-error.js";
import { StopSwitch } from "../stop-switch.js";
import { ask, patiently, RefusedError, type RunSettings } from "./ask.js";
import { type AnswerReader, readerOf } from "./events.js";
import { classifyError } from "./failures.js";
import { type ServiceResponse, UnreachableError } from "./http.js";
import { type Service, withoutKey } from "./service.js";
import { EventDecoder } from "./stream.js";

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
    const opened = await ask(settings, turn, model, connection.signal);
    response = opened.response;
    reader = readerOf(opened.api);
    yield { kind: "started", nativeId: turn.binding.nativeId ?? randomUUID(), resumed: false, warm: false };
    if (opened.dropped > 0) {
      yield {
        kind: "notice",
        message: `The ${opened.dropped} oldest exchanges do not fit the model, and were left out.`,
      };
    }
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
  throw new InputError("No model is named, neither by the request nor in the configuration of the provider.");
}
