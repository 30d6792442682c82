/** What a kind of provider is to the registry, and the settings that all kinds share. */
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import type { Provider as ProviderConfig } from "../../gen/sessionbroker/config/v1/config_pb.js";
import type { Provider } from "../turns/provider.js";
import type { Diagnosis } from "./diagnosis.js";
import { defaultOutputLimits, type OutputLimits } from "./lines.js";
import { type RunAs, runAsOf } from "./run-as.js";

export type Environment = Readonly<Record<string, string | undefined>>;

export interface ProviderKind {
  /** As in the configuration. */
  readonly name: NonNullable<ProviderConfig["kind"]["case"]>;
  /** The provider of this configuration, whose kind is this one. */
  create(config: ProviderConfig, environment: Environment): Provider;
  /** What can be told without asking a model. Default: what the provider's health says. */
  diagnose?(config: ProviderConfig, environment: Environment): Promise<Diagnosis>;
  /** Path of the executable, if this kind is to be used without a configuration when it is on the PATH. */
  find?(pathEnv: string | undefined): string | undefined;
}

export interface CommonSettings {
  readonly id: string;
  /** Names that a request may ask for; the first is the default. Empty: the agent's own default, and any name. */
  readonly models: readonly string[];
  readonly timeoutMs: number;
  /** Longest time without any output of the agent. */
  readonly silenceTimeoutMs: number;
  /** Turns at once. */
  readonly maxRunning: number;
  /** What becomes of a tool that needs a permission. */
  readonly permissions: "deny" | "ask" | "allow";
  readonly permissionMs: number;
  readonly warm: WarmSettings;
  /** What an agent may print in a turn. */
  readonly limits: OutputLimits;
  /** Names of inherited variables, besides those of the kind. */
  readonly inherit: readonly string[];
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
}

export interface WarmSettings {
  /** Processes at once; 0: none is kept after its turn. */
  readonly processes: number;
  readonly idleMs: number;
  /** Processes started before there is a session for them. */
  readonly ahead: number;
}

export const commonDefaults = {
  timeoutMs: 30 * 60_000,
  silenceTimeoutMs: 10 * 60_000,
  maxRunning: 4,
  permissionMs: 5 * 60_000,
  warm: { processes: 16, idleMs: 10 * 60_000, ahead: 0 },
} as const;

export function commonSettings(config: ProviderConfig): CommonSettings {
  const { permissions, warm } = config;
  return {
    id: config.id,
    models: config.models,
    timeoutMs: msOr(config.timeout, commonDefaults.timeoutMs),
    silenceTimeoutMs: msOr(config.silenceTimeout, commonDefaults.silenceTimeoutMs),
    maxRunning: config.maxRunning || commonDefaults.maxRunning,
    permissions: permissions?.allow ? "allow" : permissions?.ask ? "ask" : "deny",
    permissionMs: msOr(permissions?.deadline, commonDefaults.permissionMs),
    warm: {
      processes: warm?.processes ?? commonDefaults.warm.processes,
      idleMs: msOr(warm?.idle, commonDefaults.warm.idleMs),
      ahead: warm?.ahead ?? commonDefaults.warm.ahead,
    },
    limits: {
      maxBytes: Number(config.outputBytes) || defaultOutputLimits.maxBytes,
      maxLines: config.outputLines || defaultOutputLimits.maxLines,
      maxLineBytes: config.outputLineBytes || defaultOutputLimits.maxLineBytes,
    },
    inherit: config.inherit,
    runAs: runAsOf(config),
  };
}

export function msOr(duration: Duration | undefined, defaultMs: number): number {
  return duration === undefined ? defaultMs : durationMs(duration);
}
