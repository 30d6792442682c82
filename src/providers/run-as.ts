/**
 * The user that the agents of a provider run as. Only a broker that runs as
 * root can start a process as another user; setpriv, of util-linux, gives it
 * that user's groups and none of the broker's capabilities.
 */
import { execFileSync } from "node:child_process";
import { chmodSync, chownSync, mkdirSync } from "node:fs";
import type { Provider as ProviderConfig } from "../../gen/sessionbroker/config/v1/config_pb.js";
import { locateExecutable } from "./executables.js";
import type { Environment } from "./kind.js";

export interface RunAs {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

/** The setting cannot be used. To whoever started the process it is an error of the configuration. */
export class RunAsError extends Error {
  override readonly name = "ConfigError";
}

/** Undefined: the broker's own user. @throws RunAsError */
export function runAsOf({ id, runAs: name }: Pick<ProviderConfig, "id" | "runAs">): RunAs | undefined {
  if (name === "") return undefined;
  const refuse = (problem: string) => new RunAsError(`providers: run_as of ${id}: ${problem}`);
  if (process.getuid?.() !== 0) {
    throw refuse("only a broker that runs as root can start agents as another user");
  }
  if (locateExecutable("setpriv", process.env.PATH) === undefined) {
    throw refuse("there is no setpriv on the PATH; it is part of util-linux");
  }
  const user = lookUp(name);
  if (user === undefined) throw refuse(`there is no user ${name}`);
  if (user.uid === 0) throw refuse(`${name} is root, from whom nothing is kept`);
  return user;
}

/** By the ids of the providers that have one. @throws RunAsError */
export function usersOf(providers: readonly ProviderConfig[]): ReadonlyMap<string, RunAs> {
  return new Map(
    providers.flatMap((provider) => {
      const user = runAsOf(provider);
      return user === undefined ? [] : [[provider.id, user] as const];
    }),
  );
}

/** A command of that user, who is the broker's own where there is none. */
export function commandAs(
  user: RunAs | undefined,
  executable: string,
  args: readonly string[],
): readonly [string, readonly string[]] {
  if (user === undefined) return [executable, args];
  const identity = ["--reuid", String(user.uid), "--regid", String(user.gid), "--init-groups"];
  return ["setpriv", [...identity, "--inh-caps=-all", "--ambient-caps=-all", "--", executable, ...args]];
}

/** What the broker knows of itself is replaced by what is that user's. */
export function environmentAs(user: RunAs | undefined, environment: Environment): Environment {
  if (user === undefined) return environment;
  const entries = Object.entries(environment).filter(([name]) => !/^(XDG_.*|TMPDIR)$/.test(name));
  const { name, home, shell } = user;
  return { ...Object.fromEntries(entries), HOME: home, USER: name, LOGNAME: name, SHELL: shell };
}

/** Gives a file or a directory, without what is in it, to that user. */
export function giveTo(user: RunAs | undefined, path: string): void {
  if (user !== undefined) chownSync(path, user.uid, user.gid);
}

/** A directory that other users may pass through, and not list. */
export function makePassable(directory: string): void {
  mkdirSync(directory, { recursive: true });
  chmodSync(directory, 0o711);
}

function lookUp(name: string): RunAs | undefined {
  try {
    const line = execFileSync("getent", ["passwd", "--", name], { encoding: "utf8" }).trimEnd();
    const [user = "", , uid, gid, , home = "/", shell = "/bin/sh"] = line.split(":");
    return { name: user, uid: Number(uid), gid: Number(gid), home, shell };
  } catch {
    return undefined;
  }
}
