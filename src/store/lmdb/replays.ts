/** Answers that are given again to the same request with the same idempotency key, for 24 hours. */
import { create } from "@bufbuild/protobuf";
import { type ReplayRecord, ReplayRecordSchema } from "../../../gen/sessionbroker/storage/v1/records_pb.js";
import { type Refusal, refuse } from "../../sessions/refusal.js";
import type { IdempotencyKey } from "../../sessions/session-store.js";
import { sealJson, sealMessage, unsealJson, unsealMessage } from "./codec.js";
import { encodeNumber } from "./tables.js";
import type { Transaction } from "./transaction.js";

const lifeMs = 24 * 3_600_000;

/** Runs once for each key; a refusal is not kept, since the next try may fare better. */
export function replayed<T extends object>(
  tx: Transaction,
  idempotency: IdempotencyKey | undefined,
  nowMs: number,
  run: () => T,
): T | Refusal {
  if (idempotency === undefined) return run();
  const place = [idempotency.owner, idempotency.key] as const;
  const sealed = tx.tables.get("replays", place);
  const known = sealed === undefined ? undefined : unsealMessage(ReplayRecordSchema, sealed, "replays");
  if (known !== undefined && known.expiresAtMs >= nowMs) {
    if (Buffer.compare(known.requestHash, idempotency.requestHash) === 0) {
      return unsealJson(Buffer.from(known.response), "replays") as T;
    }
    return refuse("IDEMPOTENCY_KEY_REUSED", "idempotency_key: it was used with another request");
  }
  const answer = run();
  if ("kind" in answer && answer.kind === "refused") return answer;
  const expiresAtMs = nowMs + lifeMs;
  const record = create(ReplayRecordSchema, {
    requestHash: idempotency.requestHash,
    response: sealJson(answer),
    expiresAtMs,
  });
  putReplay(tx, place, record);
  return answer;
}

/** Keeps a record until it expires. */
export function putReplay(tx: Transaction, place: readonly [string, string], record: ReplayRecord): void {
  tx.tables.put("replays", place, sealMessage(ReplayRecordSchema, record));
  tx.tables.put("replayExpiry", [record.expiresAtMs, ...place], encodeNumber(record.expiresAtMs));
}
