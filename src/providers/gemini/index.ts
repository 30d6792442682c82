/**
 * Gemini CLI as an agent. A conversation begins in `gemini --acp`, a process
 * that stays. Once that is gone, each turn is a run of `gemini --resume`: the
 * CLI's own way to load a conversation into `--acp` loses it (docs/providers/gemini.md).
 */
import type { Provider } from "../../turns/provider.js";
import { createAcpProvider } from "../acp/index.js";
import { findExecutable } from "../executables.js";
import { type CommonSettings, commonDefaults, commonSettings, type ProviderKind } from "../kind.js";
import type { OutputLimits } from "../lines.js";
import { type EndingStep, endingSteps } from "../marks.js";
import type { Child } from "../process.js";
import { runAsOf } from "../run-as.js";
import { warmArguments } from "./args.js";
import { diagnoseGemini } from "./diagnose.js";
import { geminiEnvironment } from "./environment.js";
import { type OnceSettings, runOnce } from "./once.js";

export interface GeminiOptions extends Partial<Omit<CommonSettings, "id" | "limits">> {
  readonly id: string;
  /** Path or name of the executable. */
  readonly executable: string;
  /** Further arguments; they win over the provider's own. */
  readonly extraArgs?: readonly string[];
  /** Further variables of the agent; they win over inherited ones and the provider's own. */
  readonly environment?: Readonly<Record<string, string>>;
  /** The environment to inherit from, by an allow-list. */
  readonly parentEnvironment: Readonly<Record<string, string | undefined>>;
  /** How long the CLI may take to stop when it is asked to, before signals end it. Default 3 s. */
  readonly interruptMs?: number;
  /** How long the CLI may take to end after its terminal record. Default 10 s. */
  readonly lingerMs?: number;
  readonly limits?: Partial<OutputLimits>;
  readonly endingSteps?: readonly EndingStep[];
}

export const geminiKind: ProviderKind = {
  name: "gemini",
  create(config, environment) {
    if (config.kind.case !== "gemini") throw new TypeError("not a gemini configuration");
    const { executable, arguments: extraArgs, environment: added } = config.kind.value;
    return createGeminiProvider({
      ...commonSettings(config),
      executable: executable || "gemini",
      extraArgs,
      environment: added,
      parentEnvironment: environment,
    });
  },
  async diagnose(config, environment) {
    if (config.kind.case !== "gemini") throw new TypeError("not a gemini configuration");
    const { executable, environment: added } = config.kind.value;
    return diagnoseGemini(
      executable || "gemini",
      geminiEnvironment(environment, config.inherit, added),
      runAsOf(config),
    );
  },
  find: (pathEnv) => findExecutable("gemini", pathEnv),
};

export function createGeminiProvider(options: GeminiOptions): Provider {
  const { executable, models = [], extraArgs = [], permissions = "deny" } = options;
  const warm = options.warm ?? commonDefaults.warm;
  const environment = geminiEnvironment(
    options.parentEnvironment,
    options.inherit ?? [],
    options.environment ?? {},
  );
  const closing = new AbortController();
  const children = new Set<Child>();
  const once: OnceSettings = {
    executable,
    models,
    extraArgs,
    environment,
    runAs: options.runAs,
    allow: permissions === "allow",
    timeoutMs: options.timeoutMs ?? commonDefaults.timeoutMs,
    silenceTimeoutMs: options.silenceTimeoutMs ?? commonDefaults.silenceTimeoutMs,
    lingerMs: options.lingerMs ?? 10_000,
    limits: options.limits ?? {},
    endingSteps: options.endingSteps ?? endingSteps,
    closing: closing.signal,
    children,
  };
  const acp = createAcpProvider({
    ...options,
    command: [executable, ...warmArguments(models[0], extraArgs)],
    environment,
    resume: (turn) => runOnce(once, turn),
  });
  const isWarm = warm.processes > 0;
  return {
    ...acp,
    kind: "gemini",
    capabilities: {
      ...acp.capabilities,
      cost: false,
      reasoning: isWarm,
      // Only some turns could: what a run reads on its standard input is text.
      images: false,
      permissionRequests: isWarm && permissions === "ask",
      jsonObject: false,
      jsonSchema: false,
    },
    run: (turn) => (isWarm ? acp.run(turn) : runOnce(once, turn)),
    async close() {
      closing.abort();
      await Promise.all([acp.close(), ...[...children].map((child) => child.end())]);
    },
  };
}
