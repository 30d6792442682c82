/** The headers and fields in which known clients name their conversations. */
import { invalid } from "./errors.js";
import type { HeaderReader } from "./headers.js";
import type { OriginRow, OriginRules } from "./origin.js";

/** What configuration says of a source: instead of the shipped row, or that there is none. */
export type ConfiguredOrigin = OriginRow | { readonly source: string; readonly off: true };

/**
 * Each has a scope of its own: ids of two clients may be the same. A user is not
 * a conversation, and what only routes to a cache may name several, so `user`,
 * `prompt_cache_key` and `x-session-affinity` are for configuration to add.
 */
export const shippedOrigins: readonly OriginRow[] = [
  { from: "header", source: "x-session-broker-key", scope: "", replayed: false },
  {
    ...{ from: "header", source: "x-openclaw-session-key", scope: "openclaw", replayed: false },
    idOf: openclawKey,
  },
  { from: "header", source: "x-openclaw-session", scope: "openclaw", replayed: false },
  { from: "field", source: "conversation", scope: "responses", replayed: false },
  // Their side calls are one message alone.
  { ...replayed("header", "x-openwebui-chat-id", "openwebui"), neverAlone: true },
  { ...replayed("header", "x-conversation-id", "librechat"), neverAlone: true },
  replayed("header", "x-litellm-session-id", "litellm"),
  replayed("header", "x-claude-code-session-id", "claude-code"),
  replayed("header", "x-opencode-session", "opencode"),
  replayed("header", "x-chat-id", "chat-id"),
  replayed("header", "x-thread-id", "thread-id"),
  replayed("header", "x-session-id", "session-id"),
  replayed("header", "session_id", "codex"),
  replayed("field", "litellm_session_id", "litellm-session-id"),
  replayed("field", "metadata.session_id", "metadata-session-id"),
  replayed("field", "metadata.conversation_id", "metadata-conversation-id"),
];

/** What is configured, and after it what is shipped and not configured otherwise. */
export function originTable(configured: readonly ConfiguredOrigin[]): readonly OriginRow[] {
  const named = new Set(configured.map(({ source }) => source));
  return [
    ...configured.flatMap((row) => ("off" in row ? [] : [row])),
    ...shippedOrigins.filter(({ source }) => !named.has(source)),
  ];
}

function replayed(from: OriginRow["from"], source: string, scope: string): OriginRow {
  return { from, source, scope, replayed: true };
}

/** Prefixes of conversations that OpenClaw itself starts; a client may not speak in them. */
const reservedPrefix = /^(?:agent:[^:]*:)?(?:subagent|cron|acp):/i;

function openclawKey(key: string, header: HeaderReader, rules: OriginRules): string {
  const name = "x-openclaw-session-key";
  if (reservedPrefix.test(key)) {
    throw invalid(name, `header ${name} may not begin with subagent:, cron: or acp:`);
  }
  return /^agent:/i.test(key) ? key : `agent:${openclawAgent(header, rules)}:${key}`;
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
