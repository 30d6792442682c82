/** Backup: a copy of the store, verified, and sent or kept under a name. */
import { createReadStream } from "node:fs";
import { rm } from "node:fs/promises";
import { create } from "@bufbuild/protobuf";
import type { HandlerContext } from "@connectrpc/connect";
import {
  type BackupRequest,
  type BackupResponse,
  BackupResponse_Phase,
  BackupResponseSchema,
} from "../../gen/sessionbroker/v1/admin_pb.js";
import { BrokerError } from "../errors.js";
import { callerOf } from "./caller.js";

export interface BackupDeps {
  readonly backups: {
    /** @param named it stays under its name. @throws BrokerError DISK_LOW if the disk has no room for a copy */
    readonly checkRoom: (named: boolean) => void;
    /** A verified copy in a directory of its own. */
    readonly copy: (
      onVerifying: () => void,
    ) => Promise<{ readonly directory: string; readonly file: string }>;
    /** A verified copy under a name. @throws BrokerError INVALID_FIELD, BACKUP_EXISTS */
    readonly keep: (
      name: string,
      onVerifying: () => void,
    ) => Promise<{ readonly path: string; readonly bytes: number }>;
  };
}

const chunkBytes = 256 * 1024;

export async function* backup(
  deps: BackupDeps,
  { name }: BackupRequest,
  context: HandlerContext,
): AsyncGenerator<BackupResponse> {
  if (!callerOf(context).scopes.includes("*")) {
    throw new BrokerError("FOREIGN_SCOPE", "a backup holds every scope, and your credential does not", {
      scope: "*",
    });
  }
  deps.backups.checkRoom(name !== "");
  yield said(BackupResponse_Phase.COPYING);
  yield* name === "" ? send(deps, context.signal) : keep(deps, name);
}

/** Goes on to its end also if the caller leaves: the backup is wanted. */
async function* keep(deps: BackupDeps, name: string): AsyncGenerator<BackupResponse> {
  const [keeping, verifying] = begun((onVerifying) => deps.backups.keep(name, onVerifying));
  await verifying;
  yield said(BackupResponse_Phase.VERIFYING);
  const { path, bytes } = await keeping;
  yield said(BackupResponse_Phase.DONE, { bytes: BigInt(bytes), path });
}

async function* send(deps: BackupDeps, signal: AbortSignal): AsyncGenerator<BackupResponse> {
  const [copying, verifying] = begun((onVerifying) => deps.backups.copy(onVerifying));
  const remove = () =>
    copying.then(
      ({ directory }) => rm(directory, { recursive: true, force: true }),
      () => {},
    );
  // Of a caller that has left nobody reads on to the end.
  signal.addEventListener("abort", remove);
  await verifying;
  try {
    yield said(BackupResponse_Phase.VERIFYING);
    const { file } = await copying;
    let bytes = 0;
    for await (const data of createReadStream(file, {
      highWaterMark: chunkBytes,
      signal,
    }) as AsyncIterable<Buffer>) {
      signal.throwIfAborted();
      bytes += data.length;
      yield said(BackupResponse_Phase.SENDING, { bytes: BigInt(bytes), data });
    }
    yield said(BackupResponse_Phase.DONE, { bytes: BigInt(bytes) });
  } finally {
    await remove();
  }
}

/** The copy, and when it is being verified or has failed before, which it tells itself. */
function begun<T>(begin: (onVerifying: () => void) => Promise<T>): [Promise<T>, Promise<void>] {
  let startVerifying = () => {};
  const verifying = new Promise<void>((resolve) => {
    startVerifying = resolve;
  });
  const copying = begin(startVerifying);
  return [copying, Promise.race([verifying, copying.then(() => {})])];
}

function said(
  phase: BackupResponse_Phase,
  more: { readonly bytes?: bigint; readonly data?: Uint8Array; readonly path?: string } = {},
): BackupResponse {
  return create(BackupResponseSchema, { phase, ...more });
}
