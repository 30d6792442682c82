/**
 * /v1/conversations: a conversation is a session key, so making one writes
 * nothing. Each provider that answers in it has a session of its own.
 */
import { randomBytes } from "node:crypto";
import type { Conversation, ConversationDeletedResource } from "openai/resources/conversations/conversations";
import { readJsonObject } from "./body.js";
import type { Call } from "./call.js";
import { invalid } from "./errors.js";
import { below } from "./origin.js";
import { ifFound } from "./plan-turn.js";
import { notFound } from "./responses/find.js";
import { saidIn } from "./responses/said.js";

/** The time of its making, and chance. */
const mintedId = /^conv_([0-9a-f]{12})[0-9a-f]{20}$/;

export function newConversationId(nowMs: number): string {
  return `conv_${nowMs.toString(16).padStart(12, "0")}${randomBytes(10).toString("hex")}`;
}

/** Seconds since 1970; undefined for an id that was not minted here. */
export function conversationTime(id: string): number | undefined {
  const [, time] = mintedId.exec(id) ?? [];
  return time === undefined ? undefined : Math.floor(Number.parseInt(time, 16) / 1000);
}

export async function handleCreateConversation(call: Call): Promise<void> {
  const { items = null } = await readJsonObject(call.req, call.limits.bodyBytes);
  if (items !== null && !(Array.isArray(items) && items.length === 0)) {
    throw invalid(
      "items",
      "items is not empty: send them as input of the first response",
      "unsupported_value",
    );
  }
  // Nobody is let in without a token that is good.
  await call.serverInfo();
  const id = newConversationId(call.timers.now());
  call.sendJson(toConversation(id, conversationTime(id) ?? 0));
}

export async function handleRetrieveConversation(call: Call, id: string): Promise<void> {
  const begun: number[] = [];
  for (const selector of await selectors(call, id)) {
    const found = await ifFound(call.broker.getSession({ selector }, { headers: call.callHeaders }));
    if (found !== undefined) begun.push(Number(found.session?.createdAt?.seconds ?? 0n));
  }
  const minted = conversationTime(id);
  const createdAt = minted ?? (begun.length === 0 ? undefined : Math.min(...begun));
  if (createdAt === undefined) {
    throw notFound("conversation_id", `no conversation ${id}`, "conversation_not_found");
  }
  call.sendJson(toConversation(id, createdAt));
}

export async function handleConversationItems(call: Call, id: string): Promise<void> {
  const keys = (await selectors(call, id)).map(({ value }) => value);
  call.sendJson(await saidIn(call, keys));
}

/** Deletes its sessions, with all that is in them. The broker asks for the role admin. */
export async function handleDeleteConversation(call: Call, id: string): Promise<void> {
  let deleted = 0;
  for (const selector of await selectors(call, id)) {
    const request = { selector, force: true };
    const answer = await ifFound(call.broker.deleteSession(request, { headers: call.callHeaders }));
    if (answer !== undefined) deleted++;
  }
  if (deleted === 0 && conversationTime(id) === undefined) {
    throw notFound("conversation_id", `no conversation ${id}`, "conversation_not_found");
  }
  call.sendJson({ id, object: "conversation.deleted", deleted: true } satisfies ConversationDeletedResource);
}

function toConversation(id: string, createdAt: number): Conversation {
  return { id, object: "conversation", created_at: createdAt, metadata: {} };
}

/** One for each provider that may have a session of it. */
async function selectors(call: Call, id: string) {
  const { baseScope, providers } = await call.serverInfo();
  return providers.map(({ id: provider }) => ({
    case: "key" as const,
    value: { scope: below(baseScope, "responses"), externalId: id, provider },
  }));
}
