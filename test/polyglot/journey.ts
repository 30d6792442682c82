/**
 * The way through the service that every client takes, and what must be seen on it. Clients written in
 * TypeScript are a `Call` that `takeJourney` uses; the programs in other languages take the same steps
 * themselves, with what `environmentOf` tells them, and print the same `Report` as JSON.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { expect } from "vitest";
import { ViolationsSchema } from "../../gen/buf/validate/validate_pb.js";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { TestBroker } from "../support/broker.js";

export interface Report {
  /** Reserve, twice with one key. */
  readonly reserved: readonly { outcome: string; sessionId: string; externalId: string }[];
  /** ResolveSelection by the session id. */
  readonly resolved: { readonly sessionId: string; readonly externalId: string };
  /** Dispatch, twice to the same key. */
  readonly turns: readonly TurnReport[];
  readonly failures: {
    /** Reserve with the scope "NOT VALID". */
    readonly invalid: Failure;
    /** Reserve with the token "wrong". */
    readonly unauthenticated: Failure;
    /** Dispatch to a session id that is the external id. */
    readonly missing: Failure;
    /** Dispatch with a deadline to the provider `slow`, which does not answer in time. */
    readonly expired: Failure;
  };
}

export interface TurnReport {
  /** Names of the event fields in the proto, as they came. */
  readonly events: readonly string[];
  /** All text deltas together. */
  readonly deltas: string;
  /** Text of the completed event. */
  readonly text: string;
  /** From the started event. */
  readonly resumed: boolean;
}

export interface Failure {
  /** In lower case, as in "invalid_argument". */
  readonly code: string;
  readonly message: string;
  /** Messages by their full name, in base64. */
  readonly details: readonly { readonly type: string; readonly value: string }[];
}

export interface Answer {
  /** In their JSON form. */
  readonly messages: readonly unknown[];
  readonly failure?: Failure;
}

export interface CallOptions {
  readonly token: string;
  readonly timeoutMs?: number;
}

/** Calls a method of sessionbroker.v1.SessionBroker with a request in JSON form. */
export type Call = (method: string, request: object, options: CallOptions) => Promise<Answer>;

export const service = "sessionbroker.v1.SessionBroker";
export const texts = ["żółta  łódź 🐢", "日本"] as const;
export const deadlineMs = 300;
const scope = "polyglot";

export function startBroker(): Promise<TestBroker> {
  const config = `
providers:
  - { id: echo, echo: {} }
  - { id: slow, echo: { delay: 3600s } }
`;
  return TestBroker.start({ config });
}

/** An id of its own for each client, with characters of one to four bytes. */
export function externalIdOf(client: string): string {
  return `${client}/é/日本/🐢`;
}

/** What a client program is told. */
export function environmentOf(
  broker: TestBroker,
  client: string,
  more: Readonly<Record<string, string>> = {},
): Record<string, string> {
  return {
    PATH: process.env.PATH ?? "",
    HOME: broker.folder,
    BROKER_URL: broker.url,
    BROKER_TOKEN: broker.token,
    BROKER_EXTERNAL_ID: externalIdOf(client),
    BROKER_DEADLINE_MS: String(deadlineMs),
    BROKER_TEXTS: texts.join("\n"),
    ...more,
  };
}

export async function takeJourney(call: Call, token: string, client: string): Promise<Report> {
  const externalId = externalIdOf(client);
  const key = { scope, externalId, provider: "echo" };
  const good = { token };

  const reserved = [];
  for (let time = 0; time < 2; time++) {
    const { session, outcome } = only<ReserveAnswer>(await call("Reserve", { key }, good));
    reserved.push({ outcome, sessionId: session.sessionId, externalId: session.key.externalId });
  }
  const sessionId = reserved[0]?.sessionId ?? "";
  const { selected } = only<SelectionAnswer>(await call("ResolveSelection", { sessionId }, good));
  const turns = [];
  for (const text of texts) turns.push(turnReport(await call("Dispatch", { key, input: [{ text }] }, good)));

  const input = [{ text: "hello" }];
  const invalid = await call("Reserve", { key: { ...key, scope: "NOT VALID" } }, good);
  const unauthenticated = await call("Reserve", { key }, { token: "wrong" });
  const missing = await call("Dispatch", { sessionId: externalId, input }, good);
  const expired = await call(
    "Dispatch",
    { key: { ...key, provider: "slow" }, input },
    { token, timeoutMs: deadlineMs },
  );
  return {
    reserved,
    resolved: { sessionId: selected.session.sessionId, externalId: selected.session.key.externalId },
    turns,
    failures: {
      invalid: failureOf(invalid, "invalid"),
      unauthenticated: failureOf(unauthenticated, "unauthenticated"),
      missing: failureOf(missing, "missing"),
      expired: failureOf(expired, "expired"),
    },
  };
}

export function checkReport(report: Report, client: string): void {
  const externalId = externalIdOf(client);
  const sessionId = report.reserved[0]?.sessionId;
  expect(sessionId).toMatch(/^[0-9a-f-]{36}$/);
  expect(report.reserved).toEqual([
    { outcome: "OUTCOME_CREATED", sessionId, externalId },
    { outcome: "OUTCOME_EXISTING", sessionId, externalId },
  ]);
  expect(report.resolved).toEqual({ sessionId, externalId });

  expect(report.turns).toHaveLength(texts.length);
  for (const [index, turn] of report.turns.entries()) {
    expect(turn).toMatchObject({ text: `turn ${index + 1}: ${texts[index]}`, resumed: index > 0 });
    expect(turn.deltas).toBe(turn.text);
    expect(turn.events.filter((event) => event !== "queued").join(" ")).toMatch(
      /^accepted started (text_delta )+completed$/,
    );
  }

  const { invalid, unauthenticated, missing, expired } = report.failures;
  expect(invalid.code).toBe("invalid_argument");
  expect(invalid.message).toMatch(/^key\.scope: /);
  expect(fieldsOf(invalid)).toEqual(["key.scope"]);
  expect(unauthenticated.code).toBe("unauthenticated");
  expect(reasonsOf(unauthenticated)).toEqual(["UNAUTHENTICATED"]);
  expect(missing.code).toBe("not_found");
  expect(missing.message).toContain(externalId);
  expect(reasonsOf(missing)).toEqual(["SESSION_NOT_FOUND"]);
  expect(expired.code).toBe("deadline_exceeded");
}

/** The fields that a validation error names. */
export function fieldsOf(failure: Failure): string[] {
  return detailsOf(failure, ViolationsSchema.typeName).flatMap((bytes) =>
    fromBinary(ViolationsSchema, bytes).violations.map(
      ({ field }) => field?.elements.map(({ fieldName }) => fieldName).join(".") ?? "",
    ),
  );
}

export function reasonsOf(failure: Failure): string[] {
  return detailsOf(failure, ErrorInfoSchema.typeName).map(
    (bytes) => fromBinary(ErrorInfoSchema, bytes).reason,
  );
}

interface SessionMessage {
  readonly sessionId: string;
  readonly key: { readonly externalId: string };
}

interface ReserveAnswer {
  readonly session: SessionMessage;
  readonly outcome: string;
}

interface SelectionAnswer {
  readonly selected: { readonly session: SessionMessage };
}

interface DispatchAnswer {
  readonly event: {
    readonly started?: { readonly resumed?: boolean };
    readonly textDelta?: { readonly text: string };
    readonly completed?: { readonly text: string };
  };
}

const eventNames = [
  ...["accepted", "queued", "started", "textDelta", "notice"],
  ...["completed", "failed", "cancelled", "interrupted", "heartbeat"],
];

function turnReport({ messages, failure }: Answer): TurnReport {
  expect(failure).toBeUndefined();
  const events = (messages as readonly DispatchAnswer[]).map(({ event }) => event);
  return {
    events: events.map((event) => snakeCase(eventNames.find((name) => name in event) ?? "another")),
    deltas: events.map((event) => event.textDelta?.text ?? "").join(""),
    text: events.find((event) => event.completed)?.completed?.text ?? "",
    resumed: events.find((event) => event.started)?.started?.resumed ?? false,
  };
}

function only<T>({ messages, failure }: Answer): T {
  expect(failure).toBeUndefined();
  expect(messages).toHaveLength(1);
  return messages[0] as T;
}

function failureOf({ messages, failure }: Answer, step: keyof Report["failures"]): Failure {
  if (failure !== undefined) return failure;
  throw new Error(`the step "${step}" went well, with ${messages.length} messages`);
}

function detailsOf(failure: Failure, type: string): Buffer[] {
  return failure.details
    .filter((detail) => detail.type === type)
    .map(({ value }) => Buffer.from(value, "base64"));
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
