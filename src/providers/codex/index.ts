/** Codex CLI as an agent: app servers that stay, or one run of `codex exec` a turn. */
import type { AheadPlace, Provider } from "../../turns/provider.js";
import { childMarkVariable } from "../environment.js";
import { findExecutable } from "../executables.js";
import { commonDefaults, commonSettings, type ProviderKind, type WarmSettings } from "../kind.js";
import { defaultOutputLimits, type OutputLimits } from "../lines.js";
import { type EndingStep, endingSteps } from "../marks.js";
import type { Child } from "../process.js";
import { type RunAs, runAsOf } from "../run-as.js";
import { VersionProbe } from "../version.js";
import { AppServer } from "./app-server.js";
import { appServerArguments, type PermissionSetting, sandboxOf } from "./args.js";
import { diagnoseCodex } from "./diagnose.js";
import { codexEnvironment } from "./environment.js";
import { type ExecSettings, runExec } from "./exec-run.js";
import { type RunSettings, runTurn } from "./run.js";
import { AppServers } from "./servers.js";

export interface CodexOptions {
  readonly id: string;
  /** Path or name of the executable. */
  readonly executable: string;
  /** Names that a request may ask for; the first is the default. Empty: the CLI's own default, and any name. */
  readonly models: readonly string[];
  /** Run `codex exec` for each turn. Default: app servers. */
  readonly exec?: boolean;
  /** Default 30 minutes. */
  readonly timeoutMs?: number;
  /** Longest time without any output. Default 10 minutes. */
  readonly silenceTimeoutMs?: number;
  /** Default 4. */
  readonly maxRunning?: number;
  /** Further arguments; they win over the provider's own. */
  readonly extraArgs?: readonly string[];
  /** Further variables of the agent; they win over inherited ones. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Names of further variables to inherit. */
  readonly inherit?: readonly string[];
  /** The environment to inherit from, by an allow-list. */
  readonly parentEnvironment: Readonly<Record<string, string | undefined>>;
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  /** What becomes of a tool that needs a permission. Default: denied. */
  readonly permissions?: PermissionSetting;
  /** Default 5 minutes. */
  readonly permissionMs?: number;
  /** Default: 16 processes, 10 minutes, none ahead. */
  readonly warm?: WarmSettings;
  /** Conversations of one app server. Default 8. */
  readonly maxThreads?: number;
  /** How long an app server that is to end waits for its other turns. Default 30 s. */
  readonly drainMs?: number;
  /** How long an app server may take to be ready. Default 30 s. */
  readonly startMs?: number;
  /** How long the CLI may take to stop when it is asked to. Default 3 s. */
  readonly interruptMs?: number;
  /** How long `codex exec` may take to end after its terminal record. Default 10 s. */
  readonly lingerMs?: number;
  readonly limits?: Partial<OutputLimits>;
  readonly endingSteps?: readonly EndingStep[];
}

export const codexKind: ProviderKind = {
  name: "codex",
  create(config, environment) {
    if (config.kind.case !== "codex") throw new TypeError("not a codex configuration");
    const { executable, arguments: extraArgs, environment: added, exec } = config.kind.value;
    return createCodexProvider({
      ...commonSettings(config),
      executable: executable || "codex",
      exec,
      extraArgs,
      environment: added,
      parentEnvironment: environment,
    });
  },
  async diagnose(config, environment) {
    if (config.kind.case !== "codex") throw new TypeError("not a codex configuration");
    const { executable, arguments: extraArgs, environment: added, exec } = config.kind.value;
    const given = codexEnvironment(environment, config.inherit, added);
    return diagnoseCodex(executable || "codex", {
      environment: given,
      runAs: runAsOf(config),
      exec,
      extraArgs,
    });
  },
  find: (pathEnv) => findExecutable("codex", pathEnv),
};

export function createCodexProvider(options: CodexOptions): Provider {
  const exec = options.exec ?? false;
  const permissions = options.permissions ?? "deny";
  const ask = permissions === "ask" && !exec;
  const timeoutMs = options.timeoutMs ?? commonDefaults.timeoutMs;
  const warm = options.warm ?? commonDefaults.warm;
  const closing = new AbortController();
  const environment = codexEnvironment(
    options.parentEnvironment,
    options.inherit ?? [],
    options.environment ?? {},
  );
  const shared = {
    executable: options.executable,
    runAs: options.runAs,
    timeoutMs,
    silenceTimeoutMs: options.silenceTimeoutMs ?? commonDefaults.silenceTimeoutMs,
    interruptMs: options.interruptMs ?? 3_000,
    limits: { ...defaultOutputLimits, ...options.limits },
    endingSteps: options.endingSteps ?? endingSteps,
    closing: closing.signal,
    ...(options.models[0] === undefined ? {} : { defaultModel: options.models[0] }),
  };
  const extra = options.extraArgs ?? [];
  const servers = new AppServers({
    id: options.id,
    warm,
    maxThreads: options.maxThreads ?? 8,
    drainMs: options.drainMs ?? 30_000,
    start: (mark) =>
      AppServer.start({
        ...shared,
        args: appServerArguments({ permissions, extra }),
        environment: { ...environment, [childMarkVariable]: mark },
        mark,
        sandbox: sandboxOf(permissions),
        startMs: options.startMs ?? 30_000,
      }),
  });
  const children = new Set<Child>();
  const runSettings: RunSettings = { ...shared, servers, ask };
  const execSettings: ExecSettings = {
    ...shared,
    // Nobody can be asked there: the CLI denies by itself.
    permissions: permissions === "ask" ? "deny" : permissions,
    extraArgs: extra,
    environment,
    lingerMs: options.lingerMs ?? 10_000,
    // It writes down that the turn was aborted.
    interrupt: { signal: "SIGINT", waitMs: shared.interruptMs },
    children,
  };
  const version = new VersionProbe(options.executable, () => environment, options.runAs);
  return {
    id: options.id,
    kind: "codex",
    capabilities: {
      assignsNativeId: "provider",
      resume: true,
      interrupt: true,
      steer: !exec,
      warm: !exec && warm.processes > 0,
      fork: false,
      reasoning: true,
      images: true,
      usage: true,
      cost: false,
      toolEvents: true,
      permissionRequests: ask,
      jsonObject: false,
      jsonSchema: true,
    },
    models: options.models,
    timeoutMs,
    maxRunning: options.maxRunning ?? commonDefaults.maxRunning,
    permissionMs: options.permissionMs ?? commonDefaults.permissionMs,
    ...(exec ? {} : { startAhead: ({ mark }: AheadPlace) => servers.prepare(mark) }),
    run: (turn) => (exec ? runExec(execSettings, turn) : runTurn(runSettings, turn)),
    warmProcesses: () => servers.idle,
    release: (recordNo) => servers.release(recordNo),
    health: () => version.health(),
    async close() {
      closing.abort();
      await Promise.all([servers.close(), ...[...children].map((child) => child.end())]);
    },
  };
}
