/** The thread that owns the write transactions. Between batches it sleeps, in an open transaction or without one. */
import { setImmediate } from "node:timers/promises";
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from "node:worker_threads";
import { open } from "lmdb";
import { type Batch, type BatchDone, Committer, mostTogether } from "./committer.js";
import { RedoLog } from "./redo-log.js";
import { environmentOptions } from "./schema.js";
import { Tables } from "./tables.js";
import type { WriterThreadData } from "./writer.js";

const { path, instance, storeId, posted } = workerData as WriterThreadData;
const port = parentPort as MessagePort;
const root = open(environmentOptions(path));
const tables = new Tables(root, path);
const committer = new Committer({ tables, instance, log: RedoLog.open(path, storeId) });

let closing = false;
for (let batch = next(); batch !== undefined; batch = next()) {
  committer.work(batch, next, answer);
  // What the library frees, it frees in a round of the event loop.
  await setImmediate();
}
committer.close();
await root.close();
port.close();

function answer(done: BatchDone): void {
  port.postMessage(done);
}

/** What has been posted, as much as goes together, once there is anything; undefined: nothing comes any more. */
function next(): Batch | undefined {
  const batch: Batch[number][] = [];
  while (!closing && batch.length < mostTogether(batch)) {
    const seen = Atomics.load(posted, 0);
    const received = receiveMessageOnPort(port) as { message: Batch | "close" } | undefined;
    if (received?.message === "close") closing = true;
    else if (received !== undefined) batch.push(...received.message);
    else if (batch.length > 0) break;
    else Atomics.wait(posted, 0, seen);
  }
  return batch.length === 0 ? undefined : batch;
}
