import { chmodSync } from "node:fs";
import { lstat, stat, unlink } from "node:fs/promises";
import { connect, type Server } from "node:net";
import { dirname } from "node:path";
import { ListenError, toListenError } from "./listen-error.js";

/** Longest path that fits `sockaddr_un` on Linux and macOS, without its final NUL. */
const maxPathBytes = process.platform === "darwin" ? 103 : 107;

/**
 * Listens on a unix socket that only this user can open. The socket file of a
 * server that is gone is replaced; one that answers is left alone.
 */
export async function listenOnSocket(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > maxPathBytes) {
    throw new ListenError(path, "ENAMETOOLONG", `a socket path has at most ${maxPathBytes} bytes`);
  }
  // A missing directory would be reported as EACCES.
  await stat(dirname(path)).catch((error) => Promise.reject(toListenError(path, error)));
  await removeStaleSocket(path);
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(toListenError(path, error)));
    // The file appears inside listen(), so that with this umask nobody else can ever open it.
    const umask = process.umask(0o077);
    try {
      server.listen({ path }, () => {
        server.removeAllListeners("error");
        resolve();
      });
    } finally {
      process.umask(umask);
    }
  });
  chmodSync(path, 0o600);
}

async function removeStaleSocket(path: string): Promise<void> {
  const stat = await lstat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw toListenError(path, error);
  });
  if (stat === undefined) return;
  if (!stat.isSocket())
    throw new ListenError(path, "EEXIST", "a file that is no socket is there; move it away");
  if (await answers(path)) {
    throw new ListenError(path, "EADDRINUSE", "another server listens there; stop it or choose another path");
  }
  await unlink(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw toListenError(path, error);
  });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path);
    probe.once("connect", () => {
      probe.destroy();
      resolve(true);
    });
    probe.once("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ECONNREFUSED" || error.code === "ENOENT") resolve(false);
      // A live server whose backlog is full.
      else if (error.code === "EAGAIN") resolve(true);
      else reject(toListenError(path, error));
    });
  });
}
