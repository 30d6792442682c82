/** The configuration in force as a file again: with every default, and without secrets. */
import { clone, create, toJson } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { stringify } from "yaml";
import {
  type Config,
  ConfigSchema,
  LimitsSchema,
  MaintenanceSchema,
  type Provider,
  RetentionSchema,
} from "../../gen/sessionbroker/config/v1/config_pb.js";
import type { Address, Settings } from "./config.js";
import { sha256 } from "./tokens.js";

/**
 * As YAML. What may hold a secret is replaced by its SHA-256: the variables
 * that agents are given, and arguments that look like it.
 */
export function effectiveText(settings: Settings): string {
  return stringify(toJson(ConfigSchema, effectiveConfig(settings)), { lineWidth: 0 });
}

function effectiveConfig(settings: Settings): Config {
  const { limits, maintenance, retention } = settings;
  const { collectDebounceMs, diskReserveBytes, headerTimeoutMs, requestTimeoutMs, idleTimeoutMs, ...counts } =
    limits;
  const config = clone(ConfigSchema, settings.config);
  Object.assign(config, {
    data: settings.data,
    listen: addressText(settings.listen),
    socket: settings.socket,
    adapterListen: addressText(settings.adapterListen),
    metricsListen: settings.metricsListen === undefined ? "off" : addressText(settings.metricsListen),
    workspaces: settings.workspaces,
    backups: settings.backups,
    limits: create(LimitsSchema, {
      ...counts,
      diskReserveBytes: BigInt(diskReserveBytes),
      collectDebounce: durationFromMs(collectDebounceMs),
      headerTimeout: durationFromMs(headerTimeoutMs),
      requestTimeout: durationFromMs(requestTimeoutMs),
      idleTimeout: durationFromMs(idleTimeoutMs),
    }),
    maintenance: create(MaintenanceSchema, {
      archiveAfter: durationFromMs(maintenance.archiveAfterMs),
      purgeAfter: durationFromMs(maintenance.purgeAfterMs),
      every: durationFromMs(maintenance.everyMs),
    }),
    retention: create(RetentionSchema, {
      eventsFor: durationFromMs(retention.eventsForMs),
      eventsBytes: BigInt(retention.eventsBytes),
    }),
  });
  for (const provider of config.providers) hideSecrets(provider);
  return config;
}

function addressText({ host, port }: Address): string {
  return `${host.includes(":") ? `[${host}]` : host}:${port}`;
}

function hideSecrets({ kind }: Provider): void {
  const { value } = kind;
  if (value === undefined) return;
  if ("environment" in value) {
    const entries = Object.entries(value.environment);
    value.environment = Object.fromEntries(entries.map(([name, secret]) => [name, digestOf(secret)]));
  }
  if ("arguments" in value) value.arguments = value.arguments.map(hideInArgument);
  if (kind.case === "acp") kind.value.command = kind.value.command.map(hideInArgument);
  if (kind.case === "command") {
    kind.value.first = kind.value.first.map(hideInArgument);
    kind.value.resumed = kind.value.resumed.map(hideInArgument);
  }
}

/** `--api-key=…`, `TOKEN=…` and the like. */
function hideInArgument(argument: string): string {
  return argument.replace(
    /^([^=]*(?:key|token|secret|password|auth)[^=]*)=(.+)$/is,
    (_, name: string, secret: string) => `${name}=${digestOf(secret)}`,
  );
}

function digestOf(secret: string): string {
  return `sha256:${sha256(secret)}`;
}
