/** Backup: a copy of the store, made beside it, verified, and sent. */
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
    /** @throws BrokerError DISK_LOW if the disk has no room for a copy */
    readonly checkRoom: () => void;
    /** A verified copy in a directory of its own. */
    readonly copy: (
      onVerifying: () => void,
    ) => Promise<{ readonly directory: string; readonly file: string }>;
  };
}

const chunkBytes = 256 * 1024;

export async function* backup(
  deps: BackupDeps,
  { name }: BackupRequest,
  context: HandlerContext,
): AsyncGenerator<BackupResponse> {
  if (name !== "") {
    throw new BrokerError("UNSUPPORTED_FIELD", "name: the copy is sent and not kept; leave it out");
  }
  if (!callerOf(context).scopes.includes("*")) {
    throw new BrokerError("FOREIGN_SCOPE", "a backup holds every scope, and your credential does not", {
      scope: "*",
    });
  }
  deps.backups.checkRoom();
  const { COPYING, VERIFYING, SENDING, DONE } = BackupResponse_Phase;
  const said = (phase: BackupResponse_Phase, bytes = 0, data: Uint8Array = new Uint8Array()) =>
    create(BackupResponseSchema, { phase, bytes: BigInt(bytes), data });
  yield said(COPYING);
  let startVerifying = () => {};
  const verifying = new Promise<void>((resolve) => {
    startVerifying = resolve;
  });
  const copying = deps.backups.copy(startVerifying);
  const remove = () =>
    copying.then(
      ({ directory }) => rm(directory, { recursive: true, force: true }),
      () => {},
    );
  // Of a caller that has left nobody reads on to the end.
  context.signal.addEventListener("abort", remove);
  // The copy that fails tells it itself.
  await Promise.race([verifying, copying.then(() => {})]);
  try {
    yield said(VERIFYING);
    const { file } = await copying;
    let bytes = 0;
    for await (const data of createReadStream(file, {
      highWaterMark: chunkBytes,
      signal: context.signal,
    }) as AsyncIterable<Buffer>) {
      context.signal.throwIfAborted();
      bytes += data.length;
      yield said(SENDING, bytes, data);
    }
    yield said(DONE, bytes);
  } finally {
    await remove();
  }
}
