// The sessions of a benchmark: what they are called, and a store full of them.
import { join } from "node:path";
import { openStore } from "../dist/src/store/lmdb/open.js";

const dayMs = 24 * 3_600_000;

export const keyOf = (i) => ({ scope: `tenant-${i % 10}`, externalId: `chat-${i}`, provider: "echo" });
export const idOf = (i) => `00000000-0000-4000-8000-${i.toString(16).padStart(12, "0")}`;
export const aliasOf = (i) => `alias-${i}`;

/**
 * Fills a data directory and resolves with the store's bytes.
 *
 * @param idle so many, from the first, were last used 60 days ago. Default 0.
 * @param aliased whether each has an alias. Default: none has.
 */
export async function fillStore(data, rows, { idle = 0, aliased = false } = {}) {
  const now = Date.now();
  const opened = await openStore({
    path: join(data, "store"),
    now: Date.now,
    writer: "inline",
    onLost: (e) => {
      throw e;
    },
  });
  for (let from = 0; from < rows; from += 2_000) {
    const batch = Array.from({ length: Math.min(2_000, rows - from) }, (_, n) => {
      const i = from + n;
      const at = i < idle ? now - 60 * dayMs + i : now - i;
      return {
        key: keyOf(i),
        sessionId: idOf(i),
        aliases: aliased ? [aliasOf(i)] : [],
        labels: {},
        workspace: "",
        createdAtMs: at,
        startedAtMs: at,
        lastActivityMs: at,
      };
    });
    await opened.store.importRows({ rows: batch, callerScopes: ["*"] });
    if (process.stderr.isTTY && from % 100_000 === 0)
      process.stderr.write(`\r${data.split("/").at(-1)}: ${from} rows `);
  }
  const bytes = opened.bytes();
  await opened[Symbol.asyncDispose]();
  return bytes;
}
