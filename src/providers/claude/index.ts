/**
 * Claude Code as an agent. The process that has answered stays for its
 * session's next turn; another one resumes the conversation by its id.
 */
import type { Provider } from "../../turns/provider.js";
import { findExecutable } from "../executables.js";
import {
  type CommonSettings,
  commonDefaults,
  commonSettings,
  type ProviderKind,
  type WarmSettings,
} from "../kind.js";
import type { OutputLimits } from "../lines.js";
import { type EndingStep, endingSteps } from "../marks.js";
import { type RunAs, runAsOf } from "../run-as.js";
import { Spares } from "../spares.js";
import { TakeUps } from "../take-ups.js";
import { VersionProbe } from "../version.js";
import { WarmPool } from "../warm-pool.js";
import type { ClaudeProcess } from "./claude-process.js";
import { diagnoseClaude } from "./diagnose.js";
import { claudeEnvironment } from "./environment.js";
import { type RunSettings, runTurn, startSpare } from "./run.js";

export interface ClaudeOptions {
  readonly id: string;
  /** Path or name of the executable. */
  readonly executable: string;
  /** Names that a request may ask for; the first is the default. Empty: the CLI's own default, and any name. */
  readonly models: readonly string[];
  /** Default 30 minutes. */
  readonly timeoutMs?: number;
  /** Longest time without any output. Default 10 minutes. */
  readonly silenceTimeoutMs?: number;
  /** Default 4. */
  readonly maxRunning?: number;
  /** Further arguments; they win over the provider's own. */
  readonly extraArgs?: readonly string[];
  /** Further variables of the agent; they win over inherited ones and the provider's own. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Names of further variables to inherit. */
  readonly inherit?: readonly string[];
  /** The environment to inherit from, by an allow-list. */
  readonly parentEnvironment: Readonly<Record<string, string | undefined>>;
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  /** How long the CLI may take to end after its terminal record. Default 10 s. */
  readonly lingerMs?: number;
  readonly limits?: Partial<OutputLimits>;
  /** Default: 16 processes, 10 minutes, none ahead. */
  readonly warm?: Partial<WarmSettings>;
  /** What becomes of a tool that needs a permission. Default: it is denied. */
  readonly permissions?: CommonSettings["permissions"];
  /** Default 5 minutes. */
  readonly permissionMs?: number;
  /** How long the CLI may take to stop when it is asked to, before signals end it. Default 3 s. */
  readonly interruptMs?: number;
  /** Default: SIGINT, with 3 s for the CLI to write down what it has. */
  readonly interrupt?: EndingStep;
  readonly endingSteps?: readonly EndingStep[];
}

export const claudeKind: ProviderKind = {
  name: "claude",
  create(config, environment) {
    if (config.kind.case !== "claude") throw new TypeError("not a claude configuration");
    const { executable, arguments: extraArgs, environment: added } = config.kind.value;
    const common = commonSettings(config);
    return createClaudeProvider({
      ...common,
      executable: executable || "claude",
      extraArgs,
      environment: added,
      parentEnvironment: environment,
    });
  },
  async diagnose(config, environment) {
    if (config.kind.case !== "claude") throw new TypeError("not a claude configuration");
    const { executable, environment: added } = config.kind.value;
    return diagnoseClaude(
      executable || "claude",
      claudeEnvironment(environment, config.inherit, added, undefined),
      runAsOf(config),
    );
  },
  find: (pathEnv) => findExecutable("claude", pathEnv),
};

export function createClaudeProvider(options: ClaudeOptions): Provider {
  const permissions = options.permissions ?? "deny";
  const timeoutMs = options.timeoutMs ?? 30 * 60_000;
  const environmentFor = (version: string | undefined) =>
    claudeEnvironment(options.parentEnvironment, options.inherit ?? [], options.environment ?? {}, version);
  let ownVersion: string | undefined;
  const closing = new AbortController();
  const warm = { ...commonDefaults.warm, ...options.warm };
  const pool = new WarmPool<ClaudeProcess>(warm);
  const spares = new Spares<ClaudeProcess>({
    count: warm.processes > 0 ? warm.ahead : 0,
    runAs: options.runAs,
    start: (spare) => startSpare(settings, spare),
  });
  const settings: RunSettings = {
    executable: options.executable,
    extraArgs: options.extraArgs ?? [],
    runAs: options.runAs,
    async environment() {
      if (ownVersion === undefined) {
        const { available, detail } = await versionProbe.health();
        if (available) ownVersion = detail;
      }
      return environmentFor(ownVersion);
    },
    timeoutMs,
    silenceTimeoutMs: options.silenceTimeoutMs ?? 10 * 60_000,
    lingerMs: options.lingerMs ?? 10_000,
    limits: options.limits ?? {},
    permissions,
    interruptMs: options.interruptMs ?? 3_000,
    interrupt: options.interrupt ?? { signal: "SIGINT", waitMs: 3_000 },
    endingSteps: options.endingSteps ?? endingSteps,
    closing: closing.signal,
    pool,
    spares,
    takeUps: new TakeUps(),
    warm: warm.processes > 0,
    ...(options.models[0] === undefined ? {} : { defaultModel: options.models[0] }),
  };
  const versionProbe = new VersionProbe(options.executable, () => environmentFor(undefined), options.runAs);
  return {
    id: options.id,
    kind: "claude",
    capabilities: {
      assignsNativeId: "broker",
      resume: true,
      interrupt: true,
      steer: true,
      warm: warm.processes > 0,
      fork: false,
      reasoning: true,
      images: true,
      usage: true,
      cost: true,
      toolEvents: true,
      permissionRequests: permissions === "ask",
      jsonObject: false,
      jsonSchema: false,
    },
    models: options.models,
    timeoutMs,
    maxRunning: options.maxRunning ?? 4,
    permissionMs: options.permissionMs ?? 5 * 60_000,
    startAhead: (place) => spares.begin(place),
    reserveAhead: (recordNo, model) =>
      model === undefined || model === options.models[0] ? spares.reserve(recordNo) : undefined,
    run: (turn) => runTurn(settings, turn),
    health: () => versionProbe.health(),
    warmProcesses: () => pool.idle + spares.size,
    release: (recordNo) => pool.release(recordNo),
    async close() {
      closing.abort();
      await Promise.all([pool.close(), spares.close()]);
    },
  };
}
