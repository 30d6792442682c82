/** Which session a request belongs to, as far as its headers say so. */
import { invalid } from "./errors.js";
import { type HeaderReader, presentHeader } from "./headers.js";

export interface Origin {
  readonly scope: string;
  readonly externalId: string;
  /** No header names a session: the external id is good for this request only. */
  readonly anonymous: boolean;
}

export interface OriginRules {
  /** The scope of the credential; empty if it has none. */
  readonly baseScope: string;
  /** The agent that the model name stands for. */
  readonly modelAgent: string | undefined;
  readonly defaultAgent: string;
  readonly newId: () => string;
  /** What the body says beside the headers. */
  readonly fromBody?: readonly NamedOrigin[];
}

export interface NamedOrigin {
  /** The header or field that names it. */
  readonly source: string;
  readonly scope: string;
  readonly externalId: string;
}

/** Every origin that names a session must name the same one; otherwise 400, naming the other. */
export function resolveOrigin(header: HeaderReader, rules: OriginRules): Origin {
  const named = [
    ownKey(header, rules),
    openclawSessionKey(header, rules),
    openclawSession(header, rules),
    claudeCodeSession(header, rules),
    ...(rules.fromBody ?? []),
  ].filter((origin) => origin !== undefined);
  const [first, ...others] = named;
  if (first === undefined) {
    return { scope: below(rules.baseScope, "history"), externalId: rules.newId(), anonymous: true };
  }
  for (const other of others) {
    if (other.scope !== first.scope || other.externalId !== first.externalId) {
      throw invalid(other.source, `${first.source} and ${other.source} name different sessions`);
    }
  }
  return { scope: first.scope, externalId: first.externalId, anonymous: false };
}

function ownKey(header: HeaderReader, { baseScope }: OriginRules): NamedOrigin | undefined {
  const name = "x-session-broker-key";
  const externalId = presentHeader(header, name);
  return externalId === undefined ? undefined : { source: name, scope: baseScope || "default", externalId };
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
  return { source: name, scope: below(rules.baseScope, "openclaw"), externalId };
}

function openclawSession(header: HeaderReader, rules: OriginRules): NamedOrigin | undefined {
  const name = "x-openclaw-session";
  const externalId = presentHeader(header, name);
  return externalId === undefined
    ? undefined
    : { source: name, scope: below(rules.baseScope, "openclaw"), externalId };
}

function claudeCodeSession(header: HeaderReader, rules: OriginRules): NamedOrigin | undefined {
  const name = "x-claude-code-session-id";
  const externalId = presentHeader(header, name);
  return externalId === undefined
    ? undefined
    : { source: name, scope: below(rules.baseScope, "claude-code"), externalId };
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
