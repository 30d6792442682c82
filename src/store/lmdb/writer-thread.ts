/** The thread that owns the write transactions. */
import { parentPort, workerData } from "node:worker_threads";
import { open } from "lmdb";
import { type CommandCall, runBatch } from "./commands.js";
import { environmentOptions } from "./schema.js";
import { Tables } from "./tables.js";
import type { WriterThreadData } from "./writer.js";

const { path, instance } = workerData as WriterThreadData;
const root = open(environmentOptions(path));
const tables = new Tables(root, path);

parentPort?.on("message", async (message: readonly CommandCall[] | "close") => {
  if (message === "close") {
    await root.close();
    parentPort?.close();
    return;
  }
  parentPort?.postMessage(runBatch(tables, instance, message));
});
