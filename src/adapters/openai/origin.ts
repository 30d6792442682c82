/** Which session a request belongs to, as far as its headers say so. */
import { invalid } from "./errors.js";
import { type HeaderReader, presentHeader } from "./headers.js";

export interface Origin {
  readonly scope: string;
  /** Absent: the request names no session. */
  readonly externalId?: string;
  /** The client sends its whole history with each message, and uses the id for calls beside the chat as well. */
  readonly replayed: boolean;
  /** It never sends a message without the chat before it: one that comes alone is the first, or beside the chat. */
  readonly neverAlone?: boolean;
}

export interface OriginRules {
  /** The scope of the credential; empty if it has none. */
  readonly baseScope: string;
  /** The agent that the model name stands for. */
  readonly modelAgent: string | undefined;
  readonly defaultAgent: string;
  /** What the body says beside the headers. */
  readonly fromBody?: readonly NamedOrigin[];
}

export interface NamedOrigin {
  /** The header or field that names it. */
  readonly source: string;
  readonly scope: string;
  readonly externalId: string;
  readonly replayed: boolean;
  readonly neverAlone?: boolean;
}

/** Headers in which chat clients name their chats: each has a scope of its own, below the credential's. */
const chatHeaders: readonly (readonly [header: string, scope: string, neverAlone?: "never alone"])[] = [
  ["x-openwebui-chat-id", "openwebui", "never alone"],
  ["x-conversation-id", "librechat", "never alone"],
  ["x-litellm-session-id", "litellm"],
  ["x-claude-code-session-id", "claude-code"],
  ["x-opencode-session", "opencode"],
  ["x-chat-id", "chat-id"],
  ["x-thread-id", "thread-id"],
  ["x-session-id", "session-id"],
  ["session_id", "codex"],
];

/** Every origin that names a session must name the same one; otherwise 400, naming the other. */
export function resolveOrigin(header: HeaderReader, rules: OriginRules): Origin {
  const named = [
    ownKey(header, rules),
    openclawSessionKey(header, rules),
    openclawSession(header, rules),
    ...chatHeaders.map((row) => chatHeader(header, rules, row)),
    ...(rules.fromBody ?? []),
  ].filter((origin) => origin !== undefined);
  const [first, ...others] = named;
  if (first === undefined) {
    return { scope: below(rules.baseScope, "history"), replayed: true };
  }
  for (const other of others) {
    if (other.scope !== first.scope || other.externalId !== first.externalId) {
      throw invalid(other.source, `${first.source} and ${other.source} name different sessions`);
    }
  }
  const { source: _source, ...origin } = first;
  return origin;
}

function ownKey(header: HeaderReader, { baseScope }: OriginRules): NamedOrigin | undefined {
  const name = "x-session-broker-key";
  const externalId = presentHeader(header, name);
  return externalId === undefined
    ? undefined
    : { source: name, scope: baseScope || "default", externalId, replayed: false };
}

/** Prefixes of conversations that OpenClaw itself starts; a client may not speak in them. */
const reservedPrefix = /^(?:agent:[^:]*:)?(?:subagent|cron|acp):/i;

function openclawSessionKey(header: HeaderReader, rules: OriginRules): NamedOrigin | undefined {
  const name = "x-openclaw-session-key";
  const key = presentHeader(header, name);
  if (key === undefined) return undefined;
  if (reservedPrefix.test(key)) {
    throw invalid(name, `header ${name} may not begin with subagent:, cron: or acp:`);
  }
  const externalId = /^agent:/i.test(key) ? key : `agent:${openclawAgent(header, rules)}:${key}`;
  return { source: name, scope: below(rules.baseScope, "openclaw"), externalId, replayed: false };
}

function openclawSession(header: HeaderReader, rules: OriginRules): NamedOrigin | undefined {
  const name = "x-openclaw-session";
  const externalId = presentHeader(header, name);
  return externalId === undefined
    ? undefined
    : { source: name, scope: below(rules.baseScope, "openclaw"), externalId, replayed: false };
}

function chatHeader(
  header: HeaderReader,
  { baseScope }: OriginRules,
  [name, scope, neverAlone]: (typeof chatHeaders)[number],
): NamedOrigin | undefined {
  const externalId = presentHeader(header, name);
  return externalId === undefined
    ? undefined
    : {
        source: name,
        scope: below(baseScope, scope),
        externalId,
        replayed: true,
        ...(neverAlone === undefined ? {} : { neverAlone: true }),
      };
}

function openclawAgent(header: HeaderReader, { modelAgent, defaultAgent }: OriginRules): string {
  const sources = [
    ["x-openclaw-agent-id", header("x-openclaw-agent-id")],
    ["x-openclaw-agent", header("x-openclaw-agent")],
    ["model", modelAgent],
  ] as const;
  const [param, agent] = sources.find(([, value]) => value) ?? ["model", defaultAgent];
  // A colon would end the agent's part of the key.
  if (agent === undefined || agent.includes(":")) {
    throw invalid(param, `${JSON.stringify(agent)} is not an agent id`);
  }
  return agent;
}

/** A header never widens what a credential reaches. */
export function below(baseScope: string, scope: string): string {
  return baseScope ? `${baseScope}/${scope}` : scope;
}
