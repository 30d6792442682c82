/** What the sequences are about: the configuration, its callers, a few keys and ids. */
import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type KeyShape, keyText, type Policy, type Sees } from "../identity/rows.js";

export const hourMs = 3_600_000;
export const chats = "acme/chats";
export const openclaw = "acme/openclaw";

/** Who asks. The administrator sees everything. */
export type CallerName = "admin-token" | "chats-only" | "openclaw-only";

const patterns = { "chats-only": "acme/chats", "openclaw-only": "acme/openclaw" } as const;

export function sees(caller: CallerName): Sees {
  return (scope) => caller === "admin-token" || patterns[caller] === scope;
}

/** Of a restricted caller. */
export function tokenOf(caller: Exclude<CallerName, "admin-token">): string {
  return `token-of-${caller}`;
}

/** Names of the workspaces that only the scope of the chats has. */
export const workspaces = ["red", "blue"] as const;

export function hasWorkspace(scope: string, name: string): boolean {
  return name === "" || (scope === chats && workspaces.some((known) => known === name));
}

const directories = mkdtempSync(join(tmpdir(), "workspaces-"));
for (const name of workspaces) mkdirSync(join(directories, name));

export function removeWorkspaces(): void {
  rmSync(directories, { recursive: true });
}

export const config = `
providers: [{ id: echo, echo: {} }, { id: slow, echo: { delay: 3600s } }]
scopes:
  - { pattern: ${openclaw}, resetPolicy: { idle: 604800s } }
  - { pattern: ${chats}, workspaces: { red: ${directories}/red, blue: ${directories}/blue } }
credentials:
  - ${credential("chats-only")}
  - ${credential("openclaw-only")}
maintenance: { archiveAfter: 0s, purgeAfter: 0s }
`;

function credential(name: keyof typeof patterns): string {
  const tokenSha256 = createHash("sha256").update(tokenOf(name)).digest("hex");
  return `{ name: ${name}, tokenSha256: ${tokenSha256}, role: ROLE_ADMIN, scopes: ["${patterns[name]}"] }`;
}

export function scopePolicy(scope: string): Policy {
  return scope === openclaw ? { idleMs: 168 * hourMs } : {};
}

/** Whose turns the broker runs; a key may name others that it knows. */
export function isConfigured(provider: string): boolean {
  return provider === "echo" || provider === "slow";
}

export const keys: readonly KeyShape[] = [
  opaque("Room:run-1"),
  opaque("room:run-1"),
  opaque("room:run-1", "slow"),
  opaque("room:run-1", "codex"),
  agentKey("agent:main:room", "room", "main"),
  agentKey("ROOM", "room", "main"),
  agentKey("Agent:Main:Room", "room", "main"),
  agentKey("agent:main:room", "room", "main", "slow"),
  agentKey("agent:retired:acp:run-1", "acp:run-1", "retired"),
  agentKey("AGENT:Retired:ACP:Run-1", "acp:run-1", "retired"),
  agentKey("agent:retired:acp:run-1", "acp:run-1", "retired", "codex"),
];

/** One spelling of each conversation. */
export const rooms: readonly KeyShape[] = keys.filter(
  (key, index) => keys.findIndex((other) => keyText(other) === keyText(key)) === index,
);

/** Of a session that is changed for those who watch. */
export function markKey(scope: string, provider: string): KeyShape {
  return scope === chats ? opaque("mark", provider) : agentKey("agent:main:mark", "mark", "main", provider);
}

export const explicitIds = ["run-1", "room", "2f1ce7aa-0b1c-4c7e-9d52-9c3ad2bdf0e5"];
export const aliases = ["alias-1", "alias-2", "run-1"];
export const nativeIds = ["native-1", "native-2"];
export const unknownId = "00000000-0000-4000-8000-000000000000";

function opaque(spelling: string, provider = "echo"): KeyShape {
  return { scope: chats, spelling, storeKey: spelling, requestKey: spelling, agent: "", provider };
}

function agentKey(spelling: string, requestKey: string, agent: string, provider = "echo"): KeyShape {
  const storeKey = `agent:${agent}:${requestKey}`;
  return { scope: openclaw, spelling, storeKey, requestKey, agent, provider };
}
