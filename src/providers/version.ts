/** Which version an agent is. */
import { execa } from "execa";
import type { ProviderHealth } from "../turns/provider.js";
import { commandAs, type RunAs } from "./run-as.js";

const lifetimeMs = 60_000;
const timeoutMs = 10_000;

/** Asks an executable for its version; an answer counts for a minute. */
export class VersionProbe {
  #asked: { readonly until: number; readonly answer: Promise<ProviderHealth> } | undefined;

  constructor(
    private readonly executable: string,
    private readonly environment: () => Readonly<Record<string, string>>,
    private readonly runAs?: RunAs,
  ) {}

  health(): Promise<ProviderHealth> {
    const now = performance.now();
    if (this.#asked === undefined || now >= this.#asked.until) {
      this.#asked = {
        until: now + lifetimeMs,
        answer: askVersion(this.executable, this.environment(), this.runAs),
      };
    }
    return this.#asked.answer;
  }
}

/** Whether a version such as `2.1.329 (Claude Code)` is this one or newer; false if it is unknown. */
export function isAtLeast(version: string | undefined, oldest: readonly [number, number, number]): boolean {
  const parts = /(\d+)\.(\d+)\.(\d+)/
    .exec(version ?? "")
    ?.slice(1)
    .map(Number);
  if (parts === undefined) return false;
  const at = oldest.findIndex((number, index) => parts[index] !== number);
  return at === -1 || (parts[at] ?? 0) > (oldest[at] ?? 0);
}

async function askVersion(
  executable: string,
  environment: Readonly<Record<string, string>>,
  runAs: RunAs | undefined,
): Promise<ProviderHealth> {
  const [program, args] = commandAs(runAs, executable, ["--version"]);
  const result = await execa(program, args, {
    env: environment,
    extendEnv: false,
    stdin: "ignore",
    reject: false,
    timeout: timeoutMs,
    killSignal: "SIGKILL",
    maxBuffer: 64 * 1024,
  });
  if (!result.failed) return { available: true, detail: result.stdout.trim() };
  const reason = result.code ?? (result.timedOut ? "no answer" : result.stderr.trim() || result.shortMessage);
  return { available: false, detail: `Cannot run ${executable} --version: ${reason}` };
}
