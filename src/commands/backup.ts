/** `session-broker backup`: a copy of the store of a running broker, as a file or under a name. */
import { randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { link, mkdir, open, rm } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { BackupResponse_Phase } from "../../gen/sessionbroker/v1/admin_pb.js";
import { syncFile, verifyCopy } from "../store/lmdb/backup.js";
import { dataFileName } from "../store/lmdb/schema.js";
import { type BrokerAccess, brokerClient, explainCall } from "./broker-client.js";
import { CommandError } from "./command-error.js";
import { writeLines } from "./output.js";

/** The file is there only if it is whole, on disk, and can be opened; one that is there already stays. */
export async function backup(access: BrokerAccess, file: string): Promise<void> {
  const target = resolve(file);
  if (existsSync(target)) throw new CommandError(`${file} exists already: name another file`);
  // The copy is opened as a store is: as a directory.
  const directory = `${target}.${randomUUID().slice(0, 8)}.partial`;
  try {
    await mkdir(directory, { mode: 0o700 });
    const copy = join(directory, dataFileName);
    const bytes = await receive(access, copy);
    await verifyCopy(directory);
    await link(copy, target);
    await syncFile(dirname(target));
    await writeLines([`${file}: ${bytes} bytes, verified`]);
  } catch (error) {
    if (error instanceof Error && "syscall" in error) {
      throw new CommandError(`${file} cannot be written: ${error.message}`);
    }
    throw error;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** The broker keeps it, in its directory of backups. */
export async function keepBackup(access: BrokerAccess, name: string): Promise<void> {
  for await (const { phase, bytes, path } of answersOf(access, name)) {
    if (phase === BackupResponse_Phase.DONE) return writeLines([`${path}: ${bytes} bytes, verified`]);
  }
  throw new CommandError(`the broker at ${access.broker} stopped before the copy was whole; try again`);
}

/** Bytes on disk. */
async function receive(access: BrokerAccess, copy: string): Promise<number> {
  const handle = await open(copy, "wx", 0o600);
  let written = 0;
  let whole: bigint | undefined;
  try {
    for await (const { phase, bytes, data } of answersOf(access)) {
      if (data.length > 0) await handle.appendFile(data);
      written += data.length;
      if (phase === BackupResponse_Phase.DONE) whole = bytes;
    }
    if (whole !== BigInt(written)) {
      throw new CommandError(`the broker at ${access.broker} stopped before the copy was whole; try again`);
    }
    await handle.sync();
    return written;
  } finally {
    await handle.close();
  }
}

async function* answersOf(access: BrokerAccess, name = "") {
  try {
    yield* brokerClient(access).backup({ name });
  } catch (error) {
    throw explainCall(error, access);
  }
}
