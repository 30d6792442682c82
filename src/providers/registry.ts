/** The providers of a configuration; without one, the agents that are found on this machine. */
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Provider as ProviderConfig,
  ProviderSchema,
} from "../../gen/sessionbroker/config/v1/config_pb.js";
import type { Provider } from "../turns/provider.js";
import { createClaudeProvider, findClaude } from "./claude/index.js";
import { createEchoProvider } from "./echo/index.js";

/** Ids that a key may carry, whatever is configured. */
export const shippedProviders = ["claude", "codex", "gemini", "acp", "openai", "command", "echo"] as const;

type Environment = Readonly<Record<string, string | undefined>>;

/** By id, the default one first. `echo` is always there. */
export function createProviders(
  configured: readonly ProviderConfig[],
  environment: Environment,
): ReadonlyMap<string, Provider> {
  const configs = configured.length > 0 ? [...configured] : foundAgents(environment);
  if (!configs.some(({ id }) => id === "echo")) configs.push(echoConfig());
  return new Map(configs.map((config) => [config.id, createProvider(config, environment)]));
}

function foundAgents(environment: Environment): ProviderConfig[] {
  const claude = findClaude(environment.PATH);
  if (claude === undefined) return [];
  return [create(ProviderSchema, { id: "claude", kind: { case: "claude", value: { executable: claude } } })];
}

function echoConfig(): ProviderConfig {
  return create(ProviderSchema, { id: "echo", kind: { case: "echo", value: {} } });
}

function createProvider(config: ProviderConfig, environment: Environment): Provider {
  switch (config.kind.case) {
    case "claude": {
      const { executable, arguments: extraArgs, environment: added } = config.kind.value;
      const { permissions } = config;
      return createClaudeProvider({
        id: config.id,
        executable: executable || "claude",
        models: config.models,
        ...(config.timeout === undefined ? {} : { timeoutMs: durationMs(config.timeout) }),
        ...(config.silenceTimeout === undefined
          ? {}
          : { silenceTimeoutMs: durationMs(config.silenceTimeout) }),
        ...(config.maxRunning === 0 ? {} : { maxRunning: config.maxRunning }),
        ask: permissions?.ask ?? false,
        ...(permissions?.deadline === undefined ? {} : { permissionMs: durationMs(permissions.deadline) }),
        extraArgs,
        environment: added,
        parentEnvironment: environment,
      });
    }
    case "echo": {
      const { delay } = config.kind.value;
      return createEchoProvider({
        id: config.id,
        ...(delay === undefined ? {} : { delayMs: durationMs(delay) }),
        ...(config.maxRunning === 0 ? {} : { maxRunning: config.maxRunning }),
      });
    }
    default:
      throw new TypeError(`the provider ${config.id} has no kind`);
  }
}
