/** The providers of a configuration; without one, the agents that are found on this machine. */
import { create } from "@bufbuild/protobuf";
import {
  type Provider as ProviderConfig,
  ProviderSchema,
} from "../../gen/sessionbroker/config/v1/config_pb.js";
import type { Provider } from "../turns/provider.js";
import { acpKind } from "./acp/index.js";
import { claudeKind } from "./claude/index.js";
import { codexKind } from "./codex/index.js";
import { commandKind } from "./command/index.js";
import { type Diagnosis, diagnoseByHealth } from "./diagnosis.js";
import { echoKind } from "./echo/index.js";
import { geminiKind } from "./gemini/index.js";
import type { Environment, ProviderKind } from "./kind.js";
import { openAiKind } from "./openai/index.js";
import { environmentAs, runAsOf } from "./run-as.js";

/** Those that are found on this machine are used in this order. */
const kinds: readonly ProviderKind[] = [
  claudeKind,
  codexKind,
  geminiKind,
  acpKind,
  openAiKind,
  commandKind,
  echoKind,
];

/** Ids that a key may carry, whatever is configured. */
export const shippedProviders = ["claude", "codex", "gemini", "acp", "openai", "command", "echo"] as const;

/** By id, the default one first. `echo` is always there. */
export function createProviders(
  configured: readonly ProviderConfig[],
  environment: Environment,
): ReadonlyMap<string, Provider> {
  const configs = effectiveConfigs(configured, environment);
  return new Map(configs.map((config) => [config.id, createProvider(config, environment)]));
}

export interface DiagnosedProvider {
  readonly id: string;
  readonly kind: string;
  /** The user that its agents run as. Absent: the broker's own. */
  readonly runAs?: string;
  readonly diagnosis: Diagnosis;
}

/** What can be told of each provider without asking a model, the default one first. */
export function diagnoseProviders(
  configured: readonly ProviderConfig[],
  environment: Environment,
): Promise<DiagnosedProvider[]> {
  const configs = effectiveConfigs(configured, environment);
  return Promise.all(
    configs.map(async (config) => {
      const kind = kindOf(config);
      const own = environmentAs(runAsOf(config), environment);
      const diagnosis =
        kind.diagnose === undefined
          ? await diagnoseByHealth(kind.create(config, own))
          : await kind.diagnose(config, own);
      return { id: config.id, kind: kind.name, ...(config.runAs && { runAs: config.runAs }), diagnosis };
    }),
  );
}

function effectiveConfigs(configured: readonly ProviderConfig[], environment: Environment): ProviderConfig[] {
  const configs = configured.length > 0 ? [...configured] : foundAgents(environment);
  if (!configs.some(({ id }) => id === "echo")) configs.push(echoConfig());
  return configs;
}

function foundAgents(environment: Environment): ProviderConfig[] {
  return kinds.flatMap(({ name, find }) => {
    const executable = find?.(environment.PATH);
    if (executable === undefined) return [];
    return [create(ProviderSchema, { id: name, kind: { case: name, value: { executable } } as never })];
  });
}

function echoConfig(): ProviderConfig {
  return create(ProviderSchema, { id: "echo", kind: { case: "echo", value: {} } });
}

function createProvider(config: ProviderConfig, environment: Environment): Provider {
  return kindOf(config).create(config, environmentAs(runAsOf(config), environment));
}

function kindOf(config: ProviderConfig): ProviderKind {
  const kind = kinds.find(({ name }) => name === config.kind.case);
  if (kind === undefined) {
    throw new TypeError(`the provider ${config.id} has no kind that this version knows`);
  }
  return kind;
}
