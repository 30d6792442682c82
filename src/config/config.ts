/** The settings in force: the file, then flags and environment over it, then defaults. */
import { basename, dirname, join, relative, resolve } from "node:path";
import { type Duration, durationMs } from "@bufbuild/protobuf/wkt";
import {
  type Config,
  type Credential,
  type Fetching,
  KeyScheme,
  type Origin,
  Origin_History,
  type Provider,
} from "../../gen/sessionbroker/config/v1/config_pb.js";
import type { Role } from "../../gen/sessionbroker/v1/options_pb.js";
import type { ResetPolicy as ResetPolicyMessage } from "../../gen/sessionbroker/v1/session_pb.js";
import type { KeyScheme as Scheme } from "../sessions/key-scheme.js";
import type { MaintenanceSettings } from "../sessions/maintenance.js";
import type { ResetPolicy } from "../sessions/session.js";
import { type ScopePattern, scopeMatches } from "../sessions/session-store.js";
import type { RetentionSettings } from "../turns/retention.js";
import { ConfigError, emptyConfig, readConfig } from "./source.js";
import { type TlsSettings, tlsSettings } from "./tls.js";

export { ConfigError };

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface ScopeSettings {
  readonly keyScheme: Scheme;
  readonly resetPolicy: ResetPolicy;
  /** Absolute directories by name. */
  readonly workspaces: ReadonlyMap<string, string>;
}

export interface CredentialSettings {
  readonly name: string;
  /** Empty: it has no token. */
  readonly tokenSha256: string;
  /** As RFC 2253 writes it. Empty: the certificate of the client does not matter. */
  readonly certificateSubject?: string;
  readonly role: Role;
  readonly scopes: readonly ScopePattern[];
  /** Several people use it. Default: false */
  readonly shared?: boolean;
  /** The only headers and fields in which its requests may name conversations; none: all. */
  readonly origins?: readonly string[];
}

/** Where requests to the adapter name conversations. */
export type OriginSettings =
  | { readonly source: string; readonly off: true }
  | {
      readonly source: string;
      readonly from: "header" | "field";
      readonly scope: string;
      readonly replayed: boolean;
    };

export interface FetchingSettings {
  readonly hosts: readonly string[];
  readonly maxBytes: number;
  readonly timeoutMs: number;
}

export interface Settings {
  /** As it was read, without what stands beside the file. */
  readonly config: Config;
  readonly data: string;
  readonly listen: Address;
  readonly socket: string;
  readonly hosts: readonly string[];
  /** Common calls are not answered by connect-node. */
  readonly fastPath: boolean;
  readonly adapterListen: Address;
  /** Absent: metrics are shown nowhere. */
  readonly metricsListen?: Address;
  readonly workspaces: string;
  /** Of the backups that have a name. */
  readonly backups: string;
  /** Empty: whatever agent is found, then echo. */
  readonly providers: readonly Provider[];
  readonly scope: (scope: string) => ScopeSettings;
  readonly credentials: readonly CredentialSettings[];
  /** Besides those that are shipped. */
  readonly origins: readonly OriginSettings[];
  /** Which URLs the adapter fetches. Absent: none. */
  readonly fetching?: FetchingSettings;
  readonly limits: {
    readonly runningTurns: number;
    readonly waitingTurns: number;
    readonly waitingTurnsPerSession: number;
    readonly waitingTurnsPerGrant: number;
    readonly collectDebounceMs: number;
    readonly messageBytes: number;
    readonly connections: number;
    readonly diskReserveBytes: number;
    readonly promptBytes: number;
    readonly historyBytes: number;
    readonly streamsPerConnection: number;
    readonly headerBytes: number;
    readonly headerFields: number;
    readonly readersPerTurn: number;
    readonly readerBufferBytes: number;
    readonly sessionsPerScope: number;
    readonly resetsPerConnection: number;
    readonly headerTimeoutMs: number;
    readonly requestTimeoutMs: number;
    readonly idleTimeoutMs: number;
  };
  readonly maintenance: MaintenanceSettings;
  readonly retention: RetentionSettings;
  /** Absent: cleartext. */
  readonly tls?: TlsSettings;
}

/** What the command line and the environment may set. */
export interface Overrides {
  readonly config?: string | undefined;
  readonly data?: string | undefined;
  readonly listen?: string | undefined;
  readonly adapterListen?: string | undefined;
  readonly metricsListen?: string | undefined;
  readonly socket?: string | undefined;
}

export function loadSettings(overrides: Overrides): Settings {
  const config = overrides.config === undefined ? emptyConfig() : readConfig(overrides.config);
  const data = resolve(overrides.data || config.data || ".session-broker");
  const metricsListen = overrides.metricsListen ?? config.metricsListen ?? "127.0.0.1:7412";
  const settings: Settings = {
    config,
    data,
    listen: address("listen", overrides.listen || config.listen || "127.0.0.1:7410"),
    socket: shortPath(resolve(overrides.socket || config.socket || join(data, "broker.sock"))),
    hosts: config.hosts,
    fastPath: config.fastPath ?? true,
    adapterListen: address(
      "adapter_listen",
      overrides.adapterListen || config.adapterListen || "127.0.0.1:7411",
    ),
    ...(metricsListen === "" || metricsListen === "off"
      ? {}
      : { metricsListen: address("metrics_listen", metricsListen) }),
    workspaces: resolve(config.workspaces || join(dirname(data), `${basename(data)}-workspaces`)),
    backups: resolve(config.backups || join(dirname(data), `${basename(data)}-backups`)),
    providers: config.providers,
    scope: scopeSettings(config),
    credentials: config.credentials.map(credentialOf),
    origins: config.origins.map(originOf),
    ...(config.fetching === undefined ? {} : { fetching: fetchingOf(config.fetching) }),
    limits: {
      runningTurns: config.limits?.runningTurns || 64,
      waitingTurns: config.limits?.waitingTurns || 10_000,
      waitingTurnsPerSession: config.limits?.waitingTurnsPerSession || 20,
      waitingTurnsPerGrant:
        config.limits?.waitingTurnsPerGrant || Math.ceil((config.limits?.waitingTurns || 10_000) / 2),
      collectDebounceMs:
        config.limits?.collectDebounce === undefined ? 500 : durationMs(config.limits.collectDebounce),
      messageBytes: config.limits?.messageBytes || 32 * 1024 * 1024,
      connections: config.limits?.connections || 10_000,
      diskReserveBytes: Number(config.limits?.diskReserveBytes || 64n * 1024n * 1024n),
      promptBytes: config.limits?.promptBytes || 4 * 1024 * 1024,
      historyBytes: config.limits?.historyBytes || 16 * 1024 * 1024,
      streamsPerConnection: config.limits?.streamsPerConnection || 250,
      headerBytes: config.limits?.headerBytes || 64 * 1024,
      headerFields: config.limits?.headerFields || 128,
      readersPerTurn: config.limits?.readersPerTurn || 256,
      readerBufferBytes: config.limits?.readerBufferBytes || 1024 * 1024,
      sessionsPerScope: config.limits?.sessionsPerScope || 10_000_000,
      resetsPerConnection: config.limits?.resetsPerConnection || 200,
      headerTimeoutMs: spanMs(config.limits?.headerTimeout, 10_000),
      requestTimeoutMs: spanMs(config.limits?.requestTimeout, 5 * 60_000),
      idleTimeoutMs: spanMs(config.limits?.idleTimeout, 5 * 60_000),
    },
    maintenance: {
      archiveAfterMs: spanMs(config.maintenance?.archiveAfter, thirtyDaysMs),
      purgeAfterMs: spanMs(config.maintenance?.purgeAfter, thirtyDaysMs),
      everyMs: spanMs(config.maintenance?.every, 10 * 60_000),
    },
    retention: {
      eventsForMs: spanMs(config.retention?.eventsFor, 24 * 3_600_000),
      eventsBytes: Number(config.retention?.eventsBytes ?? 1024n * 1024n * 1024n),
    },
    ...(config.tls === undefined ? {} : { tls: tlsSettings(config.tls) }),
  };
  refuseSharedDirectories(settings, config);
  if (settings.limits.headerTimeoutMs > settings.limits.requestTimeoutMs) {
    throw new ConfigError(
      "limits.header_timeout: it is longer than limits.request_timeout, of which it is a part",
    );
  }
  return settings;
}

function credentialOf({ scopes, ...credential }: Credential): CredentialSettings {
  const { name, tokenSha256, certificateSubject, role, shared, origins } = credential;
  const patterns = scopes.length === 0 ? ["*"] : scopes;
  return { name, tokenSha256, certificateSubject, role, scopes: patterns, shared, origins };
}

function originOf({ source, scope, history, off }: Origin): OriginSettings {
  const { case: from = "header", value = "" } = source;
  if (off) return { source: value, off };
  return { source: value, from, scope, replayed: history !== Origin_History.NONE };
}

function fetchingOf({ hosts, bytes, timeout }: Fetching): FetchingSettings {
  return { hosts, maxBytes: bytes || 16 * 1024 * 1024, timeoutMs: spanMs(timeout, 10_000) };
}

export function resetPolicyOf(message: ResetPolicyMessage): ResetPolicy {
  return {
    ...(message.idle === undefined ? {} : { idleMs: durationMs(message.idle) }),
    ...(message.daily === undefined
      ? {}
      : { daily: { hour: message.daily.hour, timeZone: message.daily.timeZone || "UTC" } }),
  };
}

/** The path of a socket has room for about 100 bytes; from the working directory it may be shorter. */
function shortPath(path: string): string {
  const fromHere = relative(process.cwd(), path);
  return Buffer.byteLength(path) > 100 && fromHere.length < path.length ? fromHere : path;
}

const thirtyDaysMs = 30 * 24 * 3_600_000;

function spanMs(span: Duration | undefined, otherwise: number): number {
  return span === undefined ? otherwise : durationMs(span);
}

function scopeSettings(config: Config): (scope: string) => ScopeSettings {
  const rules = config.scopes.map(({ pattern, keyScheme, resetPolicy, workspaces }) => ({
    pattern,
    keyScheme,
    settings: inBothSchemes({
      resetPolicy: resetPolicy === undefined ? {} : resetPolicyOf(resetPolicy),
      workspaces: new Map(Object.entries(workspaces).map(([name, path]) => [name, resolve(path)])),
    }),
  }));
  const otherwise = {
    keyScheme: KeyScheme.UNSPECIFIED,
    settings: inBothSchemes({ resetPolicy: {}, workspaces: new Map() }),
  };
  return (scope) => {
    const { keyScheme, settings } = rules.find(({ pattern }) => scopeMatches(pattern, scope)) ?? otherwise;
    return settings[schemeOf(scope, keyScheme)];
  };
}

function inBothSchemes(rest: Omit<ScopeSettings, "keyScheme">): Readonly<Record<Scheme, ScopeSettings>> {
  return { opaque: { ...rest, keyScheme: "opaque" }, agent: { ...rest, keyScheme: "agent" } };
}

function schemeOf(scope: string, configured: KeyScheme): Scheme {
  if (configured === KeyScheme.UNSPECIFIED) {
    return scope === "openclaw" || scope.endsWith("/openclaw") ? "agent" : "opaque";
  }
  return configured === KeyScheme.AGENT ? "agent" : "opaque";
}

function address(name: string, text: string): Address {
  const match = /^(?:\[([0-9a-fA-F:]+)\]|([^:/ ]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port <= 65_535)) {
    throw new ConfigError(`${name}: ${JSON.stringify(text)} is not host:port`);
  }
  return { host, port };
}

/** An agent that may write where the store or its backups lie could change them. */
function refuseSharedDirectories(settings: Settings, config: Config): void {
  const named = config.scopes.flatMap((rule) => Object.values(rule.workspaces));
  for (const workspace of [settings.workspaces, ...named.map((path) => resolve(path))]) {
    for (const [what, directory] of [
      ["data directory", settings.data],
      ["directory of backups", settings.backups],
    ] as const) {
      if (!contains(workspace, directory) && !contains(directory, workspace)) continue;
      throw new ConfigError(`workspaces: ${workspace} and the ${what} ${directory} lie in each other`);
    }
  }
}

function contains(outer: string, inner: string): boolean {
  return inner === outer || inner.startsWith(outer.endsWith("/") ? outer : `${outer}/`);
}
