/** What was said in turns, as items: GET /v1/responses/{id}/input_items and /v1/conversations/{id}/items. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import type { SessionKeySchema } from "../../../../gen/sessionbroker/v1/session_pb.js";
import { type Turn, TurnState } from "../../../../gen/sessionbroker/v1/turn_pb.js";
import type { Call } from "../call.js";
import { invalid } from "../errors.js";
import { ifFound } from "../plan-turn.js";
import { findResponse } from "./find.js";

/** A message of a conversation. */
interface SaidItem {
  readonly id: string;
  readonly role: "user" | "assistant";
  readonly turn: Turn;
}

type Key = MessageInitShape<typeof SessionKeySchema>;

interface Page {
  readonly limit: number;
  readonly order: "asc" | "desc";
  readonly after: string | undefined;
}

/** The input as the agent was given it: one message, with images and files by their names. */
export async function handleInputItems(call: Call, id: string): Promise<void> {
  const { turn } = await findResponse(call, id);
  call.sendJson(await listOf(call, [inputOf(turn)]));
}

/** Of the sessions of a conversation, one for each provider that answered in it. */
export async function saidIn(call: Call, keys: readonly Key[]): Promise<object> {
  const turns = (await Promise.all(keys.map((key) => turnsOf(call, key)))).flat();
  turns.sort((a, b) => createdMs(a) - createdMs(b));
  return listOf(
    call,
    turns.flatMap((turn) => [inputOf(turn), answerOf(turn)]),
  );
}

/** Oldest first. */
async function turnsOf(call: Call, key: Key): Promise<Turn[]> {
  const turns: Turn[] = [];
  let pageToken = "";
  do {
    const request = { key, states: [TurnState.COMPLETED], pageSize: 1000, pageToken };
    const page = await ifFound(call.broker.listTurns(request, { headers: call.callHeaders }));
    turns.push(...(page?.turns ?? []));
    pageToken = page?.nextPageToken ?? "";
  } while (pageToken !== "");
  return turns.reverse();
}

function inputOf(turn: Turn): SaidItem {
  return { id: `msg_${turn.turnId}_in`, role: "user", turn };
}

function answerOf(turn: Turn): SaidItem {
  return { id: `msg_${turn.turnId}_0`, role: "assistant", turn };
}

async function listOf(call: Call, oldestFirst: readonly SaidItem[]): Promise<object> {
  const { limit, order, after } = pageOf(call);
  const ordered = order === "asc" ? oldestFirst : [...oldestFirst].reverse();
  const from = after === undefined ? 0 : ordered.findIndex(({ id }) => id === after) + 1;
  if (after !== undefined && from === 0) throw invalid("after", `after names no item of this list: ${after}`);
  const shown = ordered.slice(from, from + limit);
  return {
    object: "list",
    data: await Promise.all(shown.map((item) => itemOf(call, item))),
    first_id: shown.at(0)?.id ?? "",
    last_id: shown.at(-1)?.id ?? "",
    has_more: from + limit < ordered.length,
  };
}

/** Without content if that is no longer kept. */
async function itemOf(call: Call, { id, role, turn }: SaidItem) {
  const content = role === "user" ? await inputContent(call, turn) : answerContent(turn);
  return { id, type: "message", role, status: "completed", content };
}

async function inputContent(call: Call, { turnId, key }: Turn): Promise<object[]> {
  const request = { turnId, scope: key?.scope ?? "" };
  const { inputText } = await call.broker.getTurn(request, { headers: call.callHeaders });
  return inputText === undefined ? [] : [{ type: "input_text", text: inputText }];
}

function answerContent({ ending }: Turn): object[] {
  if (ending?.event.case !== "completed") return [];
  return [{ type: "output_text", text: ending.event.value.text, annotations: [], logprobs: [] }];
}

function createdMs({ createdAt }: Turn): number {
  return createdAt === undefined ? 0 : timestampMs(createdAt);
}

function pageOf({ req }: Call): Page {
  const query = new URL(req.url ?? "", "http://adapter").searchParams;
  const limit = query.get("limit") ?? "20";
  const order = query.get("order") ?? "desc";
  if (!/^\d{1,3}$/.test(limit) || Number(limit) < 1 || Number(limit) > 100) {
    throw invalid("limit", "limit is not a number from 1 to 100");
  }
  if (order !== "asc" && order !== "desc") throw invalid("order", "order is neither asc nor desc");
  return { limit: Number(limit), order, after: query.get("after") ?? undefined };
}
