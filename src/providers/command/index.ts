/** Any program as an agent: one run a turn, the prompt on its standard input. */
import type { Command } from "../../../gen/sessionbroker/config/v1/config_pb.js";
import type { Provider } from "../../turns/provider.js";
import { childEnvironment } from "../environment.js";
import { locateExecutable } from "../executables.js";
import { type CommonSettings, commonSettings, type Environment, type ProviderKind } from "../kind.js";
import type { OutputLimits } from "../lines.js";
import { type EndingStep, endingSteps } from "../marks.js";
import type { Child } from "../process.js";
import { runTurn } from "./run.js";

export interface CommandOptions
  extends Pick<
    CommonSettings,
    "id" | "models" | "timeoutMs" | "silenceTimeoutMs" | "maxRunning" | "inherit" | "runAs"
  > {
  readonly command: Pick<Command, "first" | "resumed" | "environment" | "jsonLines">;
  /** The environment to inherit from, by an allow-list. */
  readonly parentEnvironment: Environment;
  /** How long the program may take to end after its terminal record. Default 10 s. */
  readonly lingerMs?: number;
  readonly limits?: Partial<OutputLimits>;
  readonly endingSteps?: readonly EndingStep[];
}

export const commandKind: ProviderKind = {
  name: "command",
  create(config, environment) {
    if (config.kind.case !== "command") throw new TypeError("not a command configuration");
    return createCommandProvider({
      ...commonSettings(config),
      command: config.kind.value,
      parentEnvironment: environment,
    });
  },
  async diagnose(config, environment) {
    if (config.kind.case !== "command") throw new TypeError("not a command configuration");
    const { first, resumed, environment: added } = config.kind.value;
    const path = childEnvironment(environment, config.inherit, added).PATH;
    const programs = [first, resumed].flatMap(([program]) => program ?? []);
    const missing = programs.find((program) => locateExecutable(program, path) === undefined);
    const found = locateExecutable(first[0] ?? "", path);
    return {
      usable: missing === undefined,
      ...(found === undefined ? {} : { found }),
      ...(missing === undefined
        ? {}
        : {
            problem: `There is no program ${missing}.`,
            fix: "Install it, or name another one in first and resumed.",
          }),
    };
  },
};

export function createCommandProvider(options: CommandOptions): Provider {
  const { command } = options;
  const memory = {
    resumes: command.resumed.length > 0,
    namesConversations: (command.jsonLines?.nativeId ?? "") !== "",
  };
  const environment = childEnvironment(options.parentEnvironment, options.inherit, command.environment);
  const closing = new AbortController();
  const children = new Set<Child>();
  const settings = {
    command,
    memory,
    models: options.models,
    environment,
    runAs: options.runAs,
    timeoutMs: options.timeoutMs,
    silenceTimeoutMs: options.silenceTimeoutMs,
    lingerMs: options.lingerMs ?? 10_000,
    limits: options.limits ?? {},
    endingSteps: options.endingSteps ?? endingSteps,
    closing: closing.signal,
    children,
  };
  return {
    id: options.id,
    kind: "command",
    capabilities: {
      assignsNativeId: memory.namesConversations ? "provider" : "broker",
      resume: memory.resumes,
      interrupt: true,
      steer: false,
      warm: false,
      fork: false,
      reasoning: false,
      images: false,
      usage: false,
      cost: false,
      toolEvents: false,
      permissionRequests: false,
      jsonObject: false,
      jsonSchema: false,
    },
    models: options.models,
    timeoutMs: options.timeoutMs,
    maxRunning: options.maxRunning,
    permissionMs: 0,
    run: (turn) => runTurn(settings, turn),
    // A program that nobody knows is not started only to ask for its version.
    async health() {
      const [name = ""] = command.first;
      const path = locateExecutable(name, environment.PATH);
      return path === undefined
        ? { available: false, detail: `Cannot find the program ${name}.` }
        : { available: true, detail: path };
    },
    release: async () => [],
    async close() {
      closing.abort();
      await Promise.all([...children].map((child) => child.end()));
    },
  };
}
