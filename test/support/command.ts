/** Commands of session-broker that ask a broker under test. */
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import type { TestBroker } from "./broker.js";

const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));

export interface CommandAnswer {
  readonly exitCode: number | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

export function runCommand(
  broker: Pick<TestBroker, "data" | "socket" | "folder">,
  words: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<CommandAnswer> {
  return startCommand(broker, words, environment).then(({ exitCode, stdout, stderr }) => ({
    exitCode,
    stdout,
    stderr,
  }));
}

export function startCommand(
  { data, socket, folder }: Pick<TestBroker, "data" | "socket" | "folder">,
  words: readonly string[],
  environment: Readonly<Record<string, string>> = {},
) {
  return execa(process.execPath, [main, ...words, "--data", data, "--socket", socket], {
    cwd: folder,
    env: { PATH: process.env.PATH ?? "", ...environment },
    extendEnv: false,
    reject: false,
  });
}

/** Objects of an answer with one on each line. */
export function objectsOf({ stdout }: CommandAnswer): Record<string, unknown>[] {
  return stdout === "" ? [] : stdout.split("\n").map((line) => JSON.parse(line));
}
