/** The server cannot listen where it was told to. The message says what to do. */
export class ListenError extends Error {
  override readonly name = "ListenError";

  constructor(
    /** `host:port`, or the path of a unix socket. */
    readonly address: string,
    /** As of Node.js, such as `EADDRINUSE`. */
    readonly code: string,
    advice: string,
    options?: ErrorOptions,
  ) {
    super(`cannot listen on ${address}: ${advice}`, options);
  }
}

const advice: Readonly<Record<string, string>> = {
  EADDRINUSE: "another process listens there; stop it or choose another address",
  EACCES: "permission denied; choose a port above 1023, or a directory that this user may write to",
  EADDRNOTAVAIL: "this machine has no such address",
  ENOTFOUND: "the host name is unknown",
  EAI_AGAIN: "the host name cannot be resolved at the moment",
  ENOENT: "its directory does not exist",
};

export function toListenError(address: string, cause: NodeJS.ErrnoException): ListenError {
  const code = cause.code ?? "UNKNOWN";
  return new ListenError(address, code, advice[code] ?? cause.message, { cause });
}
