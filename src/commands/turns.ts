/** `session-broker turns`: looking at turns of a running broker, and ending them. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  Cancelled_Reason,
  CancelTurnResponse_Action,
  CancelTurnResponseSchema,
  Interrupted_Reason,
  type ListTurnsRequestSchema,
  type Turn,
  TurnErrorCode,
  type TurnEvent,
  TurnSchema,
  TurnState,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { answerOf } from "../answer.js";
import { askBroker, type BrokerAccess, pagesOf } from "./broker-client.js";
import { CommandError } from "./command-error.js";
import { jsonLine, writeLines } from "./output.js";
import { printableText } from "./printable.js";
import type { ListOptions } from "./sessions.js";
import { cell, enumText, factLines, tableLines, timeText } from "./table.js";

export interface TurnOptions {
  readonly access: BrokerAccess;
  readonly turnId: string;
  /** Empty: wherever the token may look. */
  readonly scope: string;
  readonly json: boolean;
}

export async function listTurns({
  access,
  filter,
  limit,
  json,
}: ListOptions<MessageInitShape<typeof ListTurnsRequestSchema>>): Promise<void> {
  const { rows, more } = await pagesOf(limit, (pageSize, pageToken) =>
    askBroker(access, async (client) => {
      const page = await client.listTurns({ ...filter, pageSize, pageToken });
      return { rows: page.turns, nextPageToken: page.nextPageToken };
    }),
  );
  if (json) await writeLines(rows.map((turn) => jsonLine(TurnSchema, turn)));
  else await writeLines(turnTable(rows));
  if (more) process.stderr.write(`the first ${limit} only; --limit 0 shows all\n`);
}

export async function showTurn({ access, turnId, scope, json }: TurnOptions): Promise<void> {
  const { turn } = await askBroker(access, (client) => client.getTurn({ turnId, scope }));
  if (turn === undefined) throw new CommandError("the broker answered without a turn");
  await writeLines(json ? [jsonLine(TurnSchema, turn)] : turnFacts(turn));
}

export async function cancelTurn({ access, turnId, scope, json }: TurnOptions): Promise<void> {
  const answer = await askBroker(access, (client) => client.cancelTurn({ turnId, scope }));
  await writeLines(
    json ? [jsonLine(CancelTurnResponseSchema, answer)] : [`${turnId}: ${actions[answer.action]}`],
  );
}

const actions: Record<CancelTurnResponse_Action, string> = {
  [CancelTurnResponse_Action.UNSPECIFIED]: "done",
  [CancelTurnResponse_Action.REMOVED_FROM_QUEUE]: "cancelled; it was waiting",
  [CancelTurnResponse_Action.INTERRUPTING]: "is being interrupted; `turns follow` tells when it has ended",
  [CancelTurnResponse_Action.ALREADY_ENDED]: "had ended before",
  [CancelTurnResponse_Action.DETACHED]: "let go of; its text has gone into another turn, which goes on",
};

const columns = [
  { name: "turn" },
  { name: "scope" },
  { name: "external id" },
  { name: "provider" },
  { name: "state" },
  { name: "created" },
  { name: "seconds", right: true },
  { name: "input", right: true },
  { name: "output", right: true },
];

export function turnTable(turns: readonly Turn[]): string[] {
  if (turns.length === 0) return ["No turn is like this."];
  return tableLines(
    columns,
    turns.map((turn) => [
      cell(turn.turnId),
      cell(turn.key?.scope ?? ""),
      cell(turn.key?.externalId ?? ""),
      cell(turn.key?.provider ?? ""),
      enumText(TurnState, turn.state),
      timeText(turn.createdAt),
      secondsText(turn),
      String(turn.usage?.inputTokens ?? 0),
      String(turn.usage?.outputTokens ?? 0),
    ]),
  );
}

/** From its start to its end. */
function secondsText({ startedAt, endedAt }: Turn): string {
  if (startedAt === undefined || endedAt === undefined) return "";
  return ((timestampMs(endedAt) - timestampMs(startedAt)) / 1000).toFixed(1);
}

function turnFacts(turn: Turn): string[] {
  const { key, usage, ending } = turn;
  const asked = turn.pendingPermissions.map(({ permissionId, tool }) => `${tool} (${permissionId})`);
  const facts = factLines([
    ["turn", turn.turnId],
    ["session", turn.sessionId],
    ["scope", key?.scope ?? ""],
    ["external id", key?.externalId ?? ""],
    ["provider", key?.provider ?? ""],
    ["state", enumText(TurnState, turn.state)],
    ["merged into", turn.mergedIntoTurnId],
    ["created", timeText(turn.createdAt)],
    ["started", timeText(turn.startedAt)],
    ["ended", timeText(turn.endedAt)],
    ["agent's id", turn.nativeId],
    ["tokens", `${usage?.inputTokens ?? 0} in, ${usage?.outputTokens ?? 0} out`],
    ["cost", usage?.costUsd === undefined ? "" : `$${usage.costUsd.toFixed(4)}`],
    ["asks", asked.join(", ")],
    ["ending", ending === undefined ? "" : endingText(ending)],
  ]);
  const text = answerOf(ending);
  return text === "" ? facts : [...facts, "", printableText(text)];
}

/** In one line; empty for an event that ends nothing. */
export function endingText({ event }: TurnEvent): string {
  switch (event.case) {
    case "completed":
      return "completed";
    case "failed": {
      const { code, message } = event.value.error ?? { code: 0, message: "" };
      return `failed (${enumText(TurnErrorCode, code)}): ${message}`;
    }
    case "cancelled":
      return `cancelled (${enumText(Cancelled_Reason, event.value.reason)})`;
    case "interrupted":
      return `interrupted (${enumText(Interrupted_Reason, event.value.reason)})`;
    default:
      return "";
  }
}
