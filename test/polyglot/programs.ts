/** Clients that are programs: where their packages are kept between runs, and how they are run. */
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { execa } from "execa";
import type { TestBroker } from "../support/broker.js";
import { environmentOf, type Report } from "./journey.js";

export const installMs = 5 * 60_000;
const clientMs = 60_000;

/** Something of the machine, or a package registry, is not there: the tests are skipped. */
export class Missing extends Error {
  override readonly name = "Missing";
}

/** What was prepared, or why it is missing, which is said once. */
export type Prepared<T> = { readonly value: T } | { readonly missing: string };

/** @throws what is not a Missing, such as an error in generated code */
export async function prepare<T>(what: string, prepareIt: () => Promise<T>): Promise<Prepared<T>> {
  try {
    return { value: await prepareIt() };
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    console.warn(`skipped: the ${what} client, because ${error.message}`);
    return { missing: error.message };
  }
}

export function available<T>(prepared: Prepared<T>): T {
  if ("missing" in prepared) throw new Missing(prepared.missing);
  return prepared.value;
}

/**
 * A directory that is filled once for each set of `ingredients` and kept in the temporary directory. Two
 * runs may fill it at once; the first one to end is used.
 */
export async function cached(
  name: string,
  ingredients: readonly string[],
  fill: (directory: string) => Promise<void>,
): Promise<string> {
  const hash = createHash("sha256").update(JSON.stringify(ingredients)).digest("hex").slice(0, 16);
  const directory = join(tmpdir(), "session-broker-test-cache", `${name}-${hash}`);
  if (existsSync(directory)) return directory;
  const draft = `${directory}.${process.pid}`;
  mkdirSync(dirname(draft), { recursive: true });
  try {
    await fill(draft);
    renameSync(draft, directory);
  } catch (error) {
    // Another run may have been faster.
    if (!existsSync(directory)) throw error;
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return directory;
}

/** A directory whose node_modules has a package of npm, named with its version. */
export function prepareNpm(what: string, pinned: string): Promise<Prepared<string>> {
  return prepare(what, () =>
    cached("npm", [pinned], async (draft) => {
      mkdirSync(draft, { recursive: true });
      const options = ["--no-save", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund"];
      await attempt("npm", ["install", "--prefix", draft, ...options, pinned], { cwd: draft });
    }),
  );
}

/** The output of a program that installs something or says its version. @throws Missing if it fails */
export async function attempt(
  file: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: Readonly<Record<string, string>> } = {},
): Promise<string> {
  const result = await execa(file, args, { ...options, timeout: installMs, reject: false });
  if (!result.failed) return result.stdout;
  const last = result.stderr?.trim().split("\n").at(-1);
  throw new Missing(`\`${[file, ...args].join(" ")}\` failed: ${last || result.shortMessage}`);
}

/** The report that a client program prints. The token is in its environment, never among its arguments. */
export async function runClient(
  command: readonly [string, ...string[]],
  broker: TestBroker,
  client: string,
  environment: Readonly<Record<string, string>> = {},
): Promise<Report> {
  const [file, ...args] = command;
  const { stdout, stderr } = await execa(file, args, {
    env: environmentOf(broker, client, environment),
    extendEnv: false,
    timeout: clientMs,
  });
  try {
    return JSON.parse(stdout);
  } catch {
    throw new Error(`the client printed no report:\n${stdout}\n${stderr}`);
  }
}
