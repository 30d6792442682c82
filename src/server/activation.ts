/**
 * Sockets that systemd listens on for this process, so that nobody is refused
 * while it restarts. https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html
 */

export interface Inherited {
  /** File descriptor of a TCP socket that is listened on. */
  readonly port?: number;
  /** File descriptor of a unix socket that is listened on. */
  readonly socket?: number;
}

/** FileDescriptorName= of a unix socket; one of any other name is the TCP socket. */
export const unixSocketName = "socket";
const firstDescriptor = 3;

/** Those that are meant for the process with this pid. @throws Error if there are two of a kind */
export function inheritedSockets(
  environment: Readonly<Record<string, string | undefined>>,
  pid: number,
): Inherited {
  if (environment.LISTEN_PID !== String(pid)) return {};
  const names = (environment.LISTEN_FDNAMES ?? "").split(":");
  const inherited: { port?: number; socket?: number } = {};
  for (let index = 0; index < Number(environment.LISTEN_FDS ?? 0); index++) {
    const kind = names[index] === unixSocketName ? "socket" : "port";
    if (inherited[kind] !== undefined) {
      throw new Error(
        `systemd hands over two sockets of the kind ${kind}: one port, and one unix socket with FileDescriptorName=${unixSocketName}, are taken`,
      );
    }
    inherited[kind] = firstDescriptor + index;
  }
  return inherited;
}
