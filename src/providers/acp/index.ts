/** Any agent that speaks the Agent Client Protocol, as a process a session. */
import type { Provider, ProviderRun, ProviderTurn } from "../../turns/provider.js";
import { childEnvironment } from "../environment.js";
import { type CommonSettings, commonDefaults, commonSettings, type ProviderKind } from "../kind.js";
import type { OutputLimits } from "../lines.js";
import { type EndingStep, endingSteps } from "../marks.js";
import { runAsOf } from "../run-as.js";
import { VersionProbe } from "../version.js";
import { WarmPool } from "../warm-pool.js";
import type { AcpAgent } from "./agent.js";
import { diagnoseAcp } from "./diagnose.js";
import { runTurn } from "./run.js";

export interface AcpOptions extends Partial<Omit<CommonSettings, "id" | "limits">> {
  readonly id: string;
  /** The executable and its arguments. */
  readonly command: readonly [string, ...string[]];
  /** All of the agent's environment, without the mark. */
  readonly environment: Readonly<Record<string, string>>;
  /** How long the agent may take to stop when it is asked to, before signals end it. Default 3 s. */
  readonly interruptMs?: number;
  readonly limits?: Partial<OutputLimits>;
  readonly endingSteps?: readonly EndingStep[];
  /** Runs the turn of a conversation that no process holds, if a new process is not to load it. */
  readonly resume?: (turn: ProviderTurn) => ProviderRun;
}

export const acpKind: ProviderKind = {
  name: "acp",
  create(config, environment) {
    if (config.kind.case !== "acp") throw new TypeError("not an acp configuration");
    const { command, environment: added } = config.kind.value;
    const [executable = "", ...args] = command;
    const common = commonSettings(config);
    return createAcpProvider({
      ...common,
      command: [executable, ...args],
      environment: childEnvironment(environment, common.inherit, added),
    });
  },
  async diagnose(config, environment) {
    if (config.kind.case !== "acp") throw new TypeError("not an acp configuration");
    const { command, environment: added } = config.kind.value;
    const [executable = "", ...args] = command;
    return diagnoseAcp(
      [executable, ...args],
      childEnvironment(environment, config.inherit, added),
      runAsOf(config),
    );
  },
};

export function createAcpProvider(options: AcpOptions): Provider {
  const { id, models = [], permissions = "deny", warm = commonDefaults.warm } = options;
  const [executable, ...args] = options.command;
  const timeoutMs = options.timeoutMs ?? commonDefaults.timeoutMs;
  const closing = new AbortController();
  const pool = new WarmPool<AcpAgent>(warm);
  const starting = new Set<AcpAgent>();
  const versionProbe = new VersionProbe(executable, () => options.environment, options.runAs);
  const settings = {
    executable,
    args,
    environment: options.environment,
    runAs: options.runAs,
    models,
    timeoutMs,
    silenceTimeoutMs: options.silenceTimeoutMs ?? commonDefaults.silenceTimeoutMs,
    permissions,
    interruptMs: options.interruptMs ?? 3_000,
    limits: options.limits ?? {},
    endingSteps: options.endingSteps ?? endingSteps,
    closing: closing.signal,
    pool,
    starting,
    ...(options.resume === undefined ? {} : { resume: options.resume }),
  };
  return {
    id,
    kind: "acp",
    capabilities: {
      assignsNativeId: "provider",
      resume: true,
      interrupt: true,
      steer: false,
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
    models,
    timeoutMs,
    maxRunning: options.maxRunning ?? commonDefaults.maxRunning,
    permissionMs: options.permissionMs ?? commonDefaults.permissionMs,
    run: (turn) => runTurn(settings, turn),
    release: (recordNo) => pool.release(recordNo),
    warmProcesses: () => pool.idle,
    health: () => versionProbe.health(),
    async close() {
      closing.abort();
      await Promise.all([pool.close(), ...[...starting].map((agent) => agent.end())]);
    },
  };
}
