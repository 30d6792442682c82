/** The tables of a store without a store around them, for tests of what is done inside one transaction. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { open } from "lmdb";
import { noUsage } from "../../src/sessions/session.js";
import { environmentOptions } from "../../src/store/lmdb/schema.js";
import { Tables } from "../../src/store/lmdb/tables.js";
import { Transaction } from "../../src/store/lmdb/transaction.js";
import type { TurnRow } from "../../src/turns/turn.js";

export class ScratchTables {
  readonly #folder = mkdtempSync(join(tmpdir(), "tables-"));
  readonly tables = new Tables(open(environmentOptions(this.#folder)), this.#folder);

  /** One transaction; what it wrote is seen afterwards. */
  write<T>(change: (tx: Transaction) => T, nowMs = 0): T {
    const answer = this.tables.root.transactionSync(() => {
      const tx = new Transaction(this.tables, nowMs);
      const value = change(tx);
      tx.finish();
      return value;
    });
    this.tables.refresh();
    return answer;
  }

  async close(): Promise<void> {
    await this.tables.root.close();
    rmSync(this.#folder, { recursive: true });
  }
}

/** A turn that has completed, unless said otherwise. */
export function turnRow(turnNo: number, more: Partial<TurnRow> = {}): TurnRow {
  return {
    turnNo,
    turnId: `turn-${turnNo}`,
    key: { scope: "acme", externalId: "chat", provider: "echo" },
    recordNo: 1,
    sessionId: "session",
    generation: 1,
    state: "COMPLETED",
    payloadHash: Buffer.alloc(0),
    credential: "test",
    grant: "acme",
    clientChoseId: true,
    cancelOnDisconnect: false,
    onConflict: "ENQUEUE",
    mergeKey: "",
    external: false,
    createdAtMs: 1_000 + turnNo,
    queueDeadlineMs: 0,
    attempt: 1,
    lastSequence: 2,
    reservedThrough: 2,
    eventBytes: 0,
    evictedThrough: 0,
    accepted: Buffer.alloc(0),
    usage: noUsage,
    labels: {},
    ...more,
  };
}
