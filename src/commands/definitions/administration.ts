/** The commands of daily administration: all ask a running broker. */
import { durationFromMs, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { SessionState } from "../../../gen/sessionbroker/v1/session_pb.js";
import { TurnState } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { durationOf } from "../duration.js";
import type { SessionName } from "../selector.js";
import { type Command, type Given, type OptionTable, UsageError } from "./definition.js";
import { accessOf, brokerOption, jsonOption, settingsOptions, tokenNote } from "./settings.js";

const common = { ...jsonOption, ...brokerOption, ...settingsOptions };
const dayMs = 24 * 3_600_000;
const defaultLimit = 100;

const listOptions = {
  limit: { type: "string", value: "N", help: "at most so many; 0: all; default: 100" },
} as const satisfies OptionTable;

const filterOptions = {
  scope: { type: "string", value: "S", help: "only this scope; acme/*: all below it" },
  provider: { type: "string", value: "P", help: "only this provider" },
} as const satisfies OptionTable;

const keyOptions = {
  scope: {
    type: "string",
    value: "S",
    help: "with a session id: only in this scope; else the\nfirst part of the key",
  },
  "external-id": { type: "string", value: "ID", help: "the second part of the key" },
  provider: { type: "string", value: "P", help: "the third part of the key" },
} as const satisfies OptionTable;

const changeOptions = {
  ...keyOptions,
  generation: { type: "string", value: "N", help: "only if the session has this generation" },
  force: { type: "boolean", help: "cancel its turns first, if it has any" },
} as const satisfies OptionTable;

const turnOptions = {
  scope: { type: "string", value: "S", help: "only in this scope" },
} as const satisfies OptionTable;

const named = "The session is named by its id, or by --scope, --external-id and --provider together.";

export const sessionCommands: readonly Command[] = [
  {
    name: "sessions list",
    summary: "sessions, latest activity first",
    details: tokenNote,
    options: {
      ...filterOptions,
      state: {
        type: "string",
        multiple: true,
        value: "STATE",
        help: "reserved, active or archived; may be given again;\ndefault: reserved and active",
      },
      agent: { type: "string", value: "A", help: "only of this agent (scopes with agent keys)" },
      label: {
        type: "string",
        multiple: true,
        value: "NAME=VALUE",
        help: "only with this label; may be given again",
      },
      idle: { type: "string", value: "TIME", help: "only without activity for so long, such as 12h or 30d" },
      ...listOptions,
      ...common,
    },
    async run(given) {
      const idleMs = durationIn(given, "idle");
      const filter = {
        scope: given.text("scope") ?? "",
        provider: given.text("provider") ?? "",
        agent: given.text("agent") ?? "",
        states: given.texts("state").map((name) => stateOf(SessionState, name)),
        labels: labelsOf(given.texts("label")),
        ...(idleMs === undefined ? {} : { idleSince: timestampFromMs(Date.now() - idleMs) }),
      };
      const limit = given.count("limit") ?? defaultLimit;
      const { listSessions } = await import("../sessions.js");
      await listSessions({ access: await accessOf(given), filter, limit, json: given.flag("json") });
      return 0;
    },
  },
  {
    name: "sessions show",
    operands: ["[SESSION_ID]"],
    summary: "one session, with its ids and what it took",
    details: `${named}\n\n${tokenNote}`,
    options: { ...keyOptions, ...common },
    async run(given) {
      const name = sessionNameOf(given);
      const { showSession } = await import("../sessions.js");
      await showSession({ access: await accessOf(given), name, json: given.flag("json") });
      return 0;
    },
  },
  {
    name: "sessions reset",
    operands: ["[SESSION_ID]"],
    summary: "gives the key of a session a new one; the old one stays, archived",
    details: `${named}\n\n${tokenNote}`,
    options: { ...changeOptions, ...common },
    async run(given) {
      const change = changeOf(given);
      const { resetSession } = await import("../sessions.js");
      await resetSession({ access: await accessOf(given), ...change });
      return 0;
    },
  },
  {
    name: "sessions delete",
    operands: ["[SESSION_ID]"],
    summary: "deletes a session with its ids, history and turns",
    details: `${named}\nThe agent's own transcript is left as it is.\n\n${tokenNote}`,
    options: { ...changeOptions, ...common },
    async run(given) {
      const change = changeOf(given);
      const { deleteSession } = await import("../sessions.js");
      await deleteSession({ access: await accessOf(given), ...change });
      return 0;
    },
  },
];

export const turnCommands: readonly Command[] = [
  {
    name: "turns list",
    summary: "turns, newest first",
    details: tokenNote,
    options: {
      ...filterOptions,
      provider: { type: "string", value: "P", help: "with --external-id: the third part of the key" },
      "external-id": {
        type: "string",
        value: "ID",
        help: "only of the session that has the key of --scope,\nthis and --provider",
      },
      session: { type: "string", value: "ID", help: "only of the session with this id" },
      state: {
        type: "string",
        multiple: true,
        value: "STATE",
        help: "queued, running, completed, failed, cancelled,\ninterrupted or merged; may be given again",
      },
      since: { type: "string", value: "DAY", help: "created on this day, YYYY-MM-DD, UTC, or later" },
      until: { type: "string", value: "DAY", help: "created on this day or before" },
      ...listOptions,
      ...common,
    },
    async run(given) {
      const filter = turnFilterOf(given);
      const limit = given.count("limit") ?? defaultLimit;
      const { listTurns } = await import("../turns.js");
      await listTurns({ access: await accessOf(given), filter, limit, json: given.flag("json") });
      return 0;
    },
  },
  {
    name: "turns show",
    operands: ["TURN_ID"],
    summary: "one turn, with how it ended and what was answered",
    details: tokenNote,
    options: { ...turnOptions, ...common },
    async run(given) {
      const { showTurn } = await import("../turns.js");
      await showTurn(await turnOf(given));
      return 0;
    },
  },
  {
    name: "turns cancel",
    operands: ["TURN_ID"],
    summary: "ends a turn that waits, or interrupts one that runs",
    details: tokenNote,
    options: { ...turnOptions, ...common },
    async run(given) {
      const { cancelTurn } = await import("../turns.js");
      await cancelTurn(await turnOf(given));
      return 0;
    },
  },
  {
    name: "turns follow",
    operands: ["TURN_ID"],
    summary: "a turn as it happens, until its end",
    details: `What the agent says goes to standard output, and what else happens to standard error.
Ends with 0 if the turn completed, and with 1 if it ended in another way.

${tokenNote}`,
    options: {
      ...turnOptions,
      after: { type: "string", value: "N", help: "events after this sequence; default: all" },
      ...common,
      json: { type: "boolean", help: "one event a line as JSON, all on standard output" },
    },
    async run(given) {
      const afterSequence = given.count("after") ?? 0;
      const { followTurn } = await import("../follow.js");
      return followTurn({ ...(await turnOf(given)), afterSequence });
    },
  },
];

export const pruneCommand: Command = {
  name: "prune",
  summary: "archives sessions that are idle or over a cap, or deletes archived ones",
  details: `--older-than or --max-sessions is needed. Sessions that run, wait or are pinned are
passed over.

${tokenNote}`,
  options: {
    "older-than": { type: "string", value: "TIME", help: "idle for longer than this, such as 12h or 30d" },
    "max-sessions": { type: "string", value: "N", help: "in each scope all but so many, the latest active" },
    ...filterOptions,
    state: {
      type: "string",
      multiple: true,
      value: "STATE",
      help: "reserved, active or archived; may be given again;\ndefault: reserved and active; with --purge: archived",
    },
    purge: { type: "boolean", help: "delete for good instead of archiving" },
    "dry-run": { type: "boolean", help: "only say what would be done" },
    limit: { type: "string", value: "N", help: "at most so many sessions; default: no limit" },
    ...common,
  },
  async run(given) {
    const olderThanMs = durationIn(given, "older-than");
    const maxSessions = given.count("max-sessions", 1);
    if (olderThanMs === undefined && maxSessions === undefined) {
      throw new UsageError("prune needs --older-than or --max-sessions");
    }
    const request = {
      ...(olderThanMs === undefined ? {} : { olderThan: durationFromMs(olderThanMs) }),
      ...(maxSessions === undefined ? {} : { maxSessions }),
      scope: given.text("scope") ?? "",
      provider: given.text("provider") ?? "",
      states: given.texts("state").map((name) => stateOf(SessionState, name)),
      purge: given.flag("purge"),
      dryRun: given.flag("dry-run"),
      limit: given.count("limit") ?? 0,
    };
    const { prune } = await import("../prune.js");
    await prune({ access: await accessOf(given), request, json: given.flag("json") });
    return 0;
  },
};

function sessionNameOf(given: Given): SessionName {
  const [sessionId] = given.operands;
  const [scope = "", externalId = "", provider = ""] = ["scope", "external-id", "provider"].map((name) =>
    given.text(name),
  );
  if (sessionId !== undefined && (externalId !== "" || provider !== "")) {
    throw new UsageError("a session is named by its id or by its key, not by both");
  }
  if (sessionId === undefined && (scope === "" || externalId === "" || provider === "")) {
    throw new UsageError("name a session by its id, or by --scope, --external-id and --provider together");
  }
  return { sessionId, scope, externalId, provider };
}

function changeOf(given: Given) {
  return {
    name: sessionNameOf(given),
    expectedGeneration: given.count("generation", 1),
    force: given.flag("force"),
    json: given.flag("json"),
  };
}

async function turnOf(given: Given) {
  const [turnId = ""] = given.operands;
  const [scope, json] = [given.text("scope") ?? "", given.flag("json")];
  return { access: await accessOf(given), turnId, scope, json };
}

function turnFilterOf(given: Given) {
  const [scope, externalId, provider, session] = ["scope", "external-id", "provider", "session"].map(
    (name) => given.text(name) ?? "",
  ) as [string, string, string, string];
  const byKey = externalId !== "" || provider !== "";
  if (byKey && session !== "") throw new UsageError("--session goes without --external-id and --provider");
  if (byKey && (externalId === "" || provider === "" || scope === "")) {
    throw new UsageError("a session is named by --scope, --external-id and --provider together");
  }
  const since = given.day("since");
  const until = given.day("until");
  return {
    ...(byKey ? { key: { scope, externalId, provider } } : { scope, sessionId: session }),
    states: given.texts("state").map((name) => stateOf(TurnState, name)),
    ...(since === undefined ? {} : { since: timestampFromMs(since) }),
    ...(until === undefined ? {} : { until: timestampFromMs(until + dayMs) }),
  };
}

function labelsOf(texts: readonly string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const [, name, value] = /^([^=]+)=(.*)$/s.exec(text) ?? [];
      if (name === undefined || value === undefined) {
        throw new UsageError(`--label: ${JSON.stringify(text)} is not NAME=VALUE`);
      }
      return [name, value];
    }),
  );
}

function durationIn(given: Given, name: string): number | undefined {
  const text = given.text(name);
  if (text === undefined) return undefined;
  const ms = durationOf(text);
  if (ms === undefined || ms === 0) {
    throw new UsageError(`--${name}: ${JSON.stringify(text)} is no time such as 90s, 30m, 12h, 30d or 2w`);
  }
  return ms;
}

/** The value of an enumeration with this name, but not its first, which stands for none. */
function stateOf<E extends number>(states: Readonly<Record<string, string | E>>, name: string): E {
  const value = states[name.toUpperCase()];
  if (typeof value === "number" && value !== 0 && name === name.toLowerCase()) return value;
  const known = Object.entries(states).flatMap(([key, value]) =>
    typeof value === "number" && value !== 0 ? [key.toLowerCase()] : [],
  );
  throw new UsageError(`--state: ${JSON.stringify(name)} is not one of ${known.join(", ")}`);
}
