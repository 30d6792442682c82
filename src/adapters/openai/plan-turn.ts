/** Which turn a request asks for: in which session, under which id, with which options. */
import { Code, ConnectError } from "@connectrpc/connect";
import { OnConflict, OnDisconnect } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { Call } from "./call.js";
import type { Conversation } from "./conversation.js";
import { invalid } from "./errors.js";
import { fetchParts } from "./fetch-parts.js";
import { type HeaderReader, presentHeader } from "./headers.js";
import { type ModelChoice, resolveModel } from "./model.js";
import { type Origin, resolveOrigin } from "./origin.js";
import type { WantedFormat } from "./output-format.js";
import type { JsonObject } from "./parts.js";
import type { PlannedTurn } from "./run-turn.js";
import { turnIdOf } from "./turn-id.js";

/** What a body asks for, whichever API it is of. */
export interface Ask extends WantedFormat {
  readonly model: string;
  readonly conversation: Conversation;
  /** SHA-256 of what makes a repeat the same: the target and the body, streamed or not. */
  digest(target: readonly string[]): Uint8Array;
  /** As it was sent. */
  readonly body: JsonObject;
  /** Where the turn goes, if not to the session of the origin. */
  readonly placeOf?: (choice: ModelChoice, origin: Origin) => Promise<Place | undefined>;
  /** The person whom the client asks for, if the body says so. */
  readonly endUser?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly responseId?: (turnId: string) => string;
  /** The client does not wait for the turn. */
  readonly background?: boolean;
}

/** Where a turn goes. */
export interface Place {
  readonly scope: string;
  readonly target: Exclude<PlannedTurn["request"]["target"], undefined>;
  /** What of it makes a repeat the same. */
  readonly sameTarget: readonly string[];
  /** What the history does not go on from, runs beside it. */
  readonly historyReplayed?: boolean;
  /** The session goes on however long it was idle: no other may take its place. */
  readonly neverStale?: boolean;
}

export async function planTurn(call: Call, ask: Ask): Promise<PlannedTurn> {
  const { header } = call;
  const { providers, baseScope, acceptedOrigins } = await call.recentServerInfo();
  const ids = providers.map(({ id }) => id);
  const choice = resolveModel(ask.model, {
    providers: ids,
    defaultProvider: call.defaults.provider ?? ids[0],
    provider: presentHeader(header, "x-session-broker-provider"),
  });
  const origin = resolveOrigin(header, ask.body, {
    baseScope,
    modelAgent: choice.agent,
    defaultAgent: call.defaults.agent,
    table: call.origins,
    accepted: acceptedOrigins,
  });
  const onConflict = optionHeader(header, "x-session-broker-on-conflict", conflicts);
  const cancelOnLeave = optionHeader(header, "x-session-broker-on-disconnect", leavings) ?? true;
  const place = (await ask.placeOf?.(choice, origin)) ?? placeOfOrigin(call, ask, choice, origin);
  const payloadDigest = ask.digest(place.sameTarget);
  const idempotencyKey = presentHeader(header, "idempotency-key");
  const turnId = idempotencyKey === undefined ? call.newId() : turnIdOf(idempotencyKey, place.scope);
  return {
    request: {
      target: place.target,
      turnId,
      ...ask.conversation,
      input: await fetchParts(ask.conversation.input, call.fetching),
      model: choice.model,
      ...(ask.outputFormat === undefined ? {} : { outputFormat: ask.outputFormat }),
      onConflict: onConflict ?? OnConflict.UNSPECIFIED,
      // The death of an adapter is not the leaving of its client, which is told by CancelTurn.
      onDisconnect: OnDisconnect.DETACH,
      payloadDigest,
      historyReplayed: place.historyReplayed ?? false,
      isRetry: idempotencyKey === undefined && isRetry(header),
      labels: { ...ask.labels },
      ...(place.neverStale === true ? { reserve: { resetPolicy: {} } } : {}),
      ...(ask.responseId === undefined ? {} : { responseId: ask.responseId(turnId) }),
    },
    scope: place.scope,
    cancelOnLeave: cancelOnLeave && ask.background !== true,
  };
}

/** The session that the request names, or the one in which its history was said. */
function placeOfOrigin(
  { header }: Call,
  { endUser = header("x-openwebui-user-id") ?? "", conversation }: Ask,
  { provider }: ModelChoice,
  { scope, externalId, replayed, neverAlone = false }: Origin,
): Place {
  if (externalId === undefined) {
    return {
      scope,
      target: { case: "byHistory", value: { scope, provider, endUser } },
      sameTarget: [scope, provider],
    };
  }
  const key = { scope, externalId, provider };
  return {
    scope,
    target: { case: "key", value: key },
    // A message that comes alone is the next one, for a client that sends them one at a time.
    historyReplayed: replayed && (neverAlone || conversation.history.length > 0),
    sameTarget: [scope, provider, externalId],
  };
}

/** The SDKs of OpenAI and Anthropic say so themselves. */
function isRetry(header: HeaderReader): boolean {
  return Number(header("x-stainless-retry-count") ?? 0) >= 1;
}

/** Undefined if the broker knows no such thing. */
export async function ifFound<Answer>(answer: Promise<Answer>): Promise<Answer | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof ConnectError && error.code === Code.NotFound) return undefined;
    throw error;
  }
}

const conflicts: Readonly<Record<string, OnConflict>> = {
  enqueue: OnConflict.ENQUEUE,
  reject: OnConflict.REJECT,
  interrupt: OnConflict.INTERRUPT,
  steer: OnConflict.STEER,
  collect: OnConflict.COLLECT,
};

const leavings: Readonly<Record<string, boolean>> = { cancel: true, detach: false };

function optionHeader<Value>(
  header: HeaderReader,
  name: string,
  values: Readonly<Record<string, Value>>,
): Value | undefined {
  const value = header(name);
  if (value === undefined) return undefined;
  if (!Object.hasOwn(values, value)) {
    throw invalid(name, `header ${name} is not one of ${Object.keys(values).join(", ")}`);
  }
  return values[value];
}
