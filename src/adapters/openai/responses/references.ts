/**
 * Items that a client names instead of sending them again, as Vercel's AI SDK
 * does with the answers of its history: `item_reference`, with the id of an item
 * that a response had. The answer takes the place of its name, so that whatever
 * looks at the history finds one that was sent.
 */
import { answerOf } from "../../../answer.js";
import type { Call } from "../call.js";
import { invalid } from "../errors.js";
import { isObject, type JsonObject } from "../parts.js";
import { notFound, turnOf } from "./find.js";
import { responseIdOf } from "./resource.js";

/** Each is asked of the broker. */
const mostAnswers = 1000;

/** The body with its references replaced. 404 names an item that is unknown, or another's. */
export async function withReferencedItems(call: Call, body: JsonObject): Promise<JsonObject> {
  const { input } = body;
  if (!Array.isArray(input)) return body;
  const named = new Map(input.flatMap((item, i) => (isReference(item) ? [[i, itemIdAt(item, i)]] : [])));
  if (named.size === 0) return body;
  const turnIds = new Set([...named.values()].map(({ turnId }) => turnId));
  if (turnIds.size > mostAnswers) {
    throw invalid(
      "input",
      `input names items of more than ${mostAnswers} responses: use previous_response_id`,
    );
  }
  const found = await Promise.all(
    [...turnIds].map(async (turnId) => [turnId, await turnOf(call, responseIdOf(turnId))] as const),
  );
  const turns = new Map(found);
  const answered = new Set<string>();
  const items = input.map((item, i) => {
    const reference = named.get(i);
    if (reference === undefined) return item;
    const { kind, turnId, id } = reference;
    const turn = turns.get(turnId);
    if (turn === undefined) throw notFound(`input[${i}].id`, `no item ${id}`, "item_not_found");
    // An answer with reasoning in it has several messages; their text is told once.
    if (kind === "rs" || answered.has(turnId)) return { type: "reasoning" };
    answered.add(turnId);
    return { type: "message", role: "assistant", content: answerOf(turn.ending) };
  });
  return { ...body, input: items };
}

function isReference(item: unknown): item is JsonObject {
  return isObject(item) && item.type === "item_reference";
}

interface ItemId {
  readonly id: string;
  readonly kind: "msg" | "rs";
  readonly turnId: string;
}

function itemIdAt({ id }: JsonObject, index: number): ItemId {
  const param = `input[${index}].id`;
  if (typeof id !== "string") throw invalid(param, `${param} is not a string`);
  const [, kind, turnId] = /^(msg|rs)_(.+)_\d+$/s.exec(id) ?? [];
  if (kind === undefined || turnId === undefined) throw notFound(param, `no item ${id}`, "item_not_found");
  return { id, kind: kind === "msg" ? "msg" : "rs", turnId };
}
