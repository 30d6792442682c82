/** Settings of which some can be changed while the broker runs. */
import { toJson } from "@bufbuild/protobuf";
import { ConfigSchema } from "../../gen/sessionbroker/config/v1/config_pb.js";
import type { Settings } from "./config.js";

/** What a change of the configuration came to, by the paths of its settings. */
export interface Reloaded {
  readonly changed: readonly string[];
  /** Changed in the file, and in force after the next start. */
  readonly needsRestart: readonly string[];
}

/** Those of one level that count by themselves. */
const parts: ReadonlySet<string> = new Set(["limits", "maintenance", "retention"]);

const changeable: ReadonlySet<string> = new Set([
  "hosts",
  "scopes",
  "credentials",
  "limits.waiting_turns",
  "limits.waiting_turns_per_session",
  "limits.waiting_turns_per_grant",
  "limits.disk_reserve_bytes",
  "limits.prompt_bytes",
  "limits.history_bytes",
  "limits.readers_per_turn",
  "limits.sessions_per_scope",
  "maintenance.archive_after",
  "maintenance.purge_after",
  "retention.events_for",
  "retention.events_bytes",
]);

/** Settings that differ between what is in force and what was read. */
export function settingsChanges(before: Settings, after: Settings): Reloaded {
  const [old, next] = [before, after].map(flat);
  const names = new Set([...Object.keys(old ?? {}), ...Object.keys(next ?? {})]);
  const changes = [...names].filter((name) => old?.[name] !== next?.[name]).sort();
  return {
    changed: changes.filter((name) => changeable.has(name)),
    needsRestart: changes.filter((name) => !changeable.has(name)),
  };
}

/** Settings as JSON by their paths. */
function flat({ config }: Settings): Record<string, string> {
  const json = toJson(ConfigSchema, config, { useProtoFieldName: true }) as Record<string, object>;
  return Object.fromEntries(
    Object.entries(json).flatMap(([name, value]) =>
      parts.has(name)
        ? Object.entries(value).map(([part, inner]) => [`${name}.${part}`, JSON.stringify(inner)])
        : [[name, JSON.stringify(value)]],
    ),
  );
}

/** Reads that are made at the time of use see the settings that are in force then. */
export class LiveSettings {
  #current: Settings;
  /** The settings in force. */
  readonly view: Settings;

  constructor(private readonly started: Settings) {
    this.#current = started;
    this.view = viewOf(() => this.#current);
  }

  replace(next: Settings): Reloaded {
    const { started } = this;
    const { needsRestart } = settingsChanges(started, next);
    const { changed } = settingsChanges(this.#current, next);
    this.#current = {
      ...started,
      config: next.config,
      hosts: next.hosts,
      scope: next.scope,
      credentials: next.credentials,
      limits: {
        ...started.limits,
        waitingTurns: next.limits.waitingTurns,
        waitingTurnsPerSession: next.limits.waitingTurnsPerSession,
        waitingTurnsPerGrant: next.limits.waitingTurnsPerGrant,
        diskReserveBytes: next.limits.diskReserveBytes,
        promptBytes: next.limits.promptBytes,
        historyBytes: next.limits.historyBytes,
        readersPerTurn: next.limits.readersPerTurn,
        sessionsPerScope: next.limits.sessionsPerScope,
      },
      maintenance: { ...next.maintenance, everyMs: started.maintenance.everyMs },
      retention: next.retention,
    };
    return { changed, needsRestart };
  }
}

function viewOf(current: () => Settings): Settings {
  const names = Object.keys(current()) as (keyof Settings)[];
  const view = {};
  for (const name of names) {
    Object.defineProperty(view, name, { get: () => current()[name], enumerable: true });
  }
  return view as Settings;
}
