/** Whether a command line agent can work here: found, its version, and whether it is logged in. */
import { readFileSync } from "node:fs";
import { type Diagnosis, knownVersions, type Login, supportOf } from "./diagnosis.js";
import { locateExecutable } from "./executables.js";
import { type JsonRecord, parseRecord } from "./json.js";
import type { RunAs } from "./run-as.js";
import { VersionProbe } from "./version.js";

/** What the agent is given of the environment. */
export type ChildVariables = Readonly<Record<string, string>>;

export interface CommandLine {
  /** As in `knownVersions`. */
  readonly kind: string;
  readonly executable: string;
  readonly environment: ChildVariables;
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  /** What to do if there is none, without the alternative to name another executable. */
  readonly install: string;
  /** Asked when it is found. */
  login(): Login;
  /** What to do if it is not logged in. @param found its path */
  logIn(found: string): string;
  /** What to do if it is too old. @param found its path */
  update(found: string): string;
}

export async function diagnoseCommandLine(agent: CommandLine): Promise<Diagnosis> {
  const { executable, environment, kind, runAs } = agent;
  const found = locateExecutable(executable, environment.PATH);
  if (found === undefined) {
    return {
      usable: false,
      problem: `There is no ${executable}.`,
      fix: `${agent.install}, or name its executable in the configuration.`,
    };
  }
  const health = await new VersionProbe(found, () => environment, runAs).health();
  if (!health.available) {
    return { usable: false, found, problem: health.detail, fix: `${agent.install} again.` };
  }
  const support = supportOf(health.detail, knownVersions[kind]);
  const login = agent.login();
  const told = { found, version: health.detail, support, login };
  if (login.state === "no") {
    return { ...told, usable: false, problem: "It is not logged in.", fix: agent.logIn(found) };
  }
  if (support === "too old") {
    const problem = "The version is older than those that are tested.";
    return { ...told, usable: true, problem, fix: agent.update(found) };
  }
  return { ...told, usable: true };
}

/** The first of these variables that is set to something. */
export function firstSet(environment: ChildVariables, names: readonly string[]): string | undefined {
  return names.find((name) => (environment[name] ?? "") !== "");
}

/** Undefined: it cannot be read. */
export function readText(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch {
    return undefined;
  }
}

/** An object of JSON; undefined if it cannot be read, or is none. */
export function readObject(file: string): JsonRecord | undefined {
  return parseRecord((readText(file) ?? "").trim());
}
