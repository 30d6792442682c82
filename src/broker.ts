/** One broker: the store, the providers, the dispatcher and the service, put together. */
import { randomUUID } from "node:crypto";
import { existsSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Logger } from "pino";
import { Background } from "./background.js";
import { type Clock, ClockGuard, systemClock } from "./clock.js";
import type { Settings } from "./config/config.js";
import { LiveSettings, type Reloaded } from "./config/live.js";
import { defaultCredentials, prepareData, signingKey } from "./config/tokens.js";
import { BrokerError } from "./errors.js";
import { MetricsRecorder } from "./metrics/record.js";
import { openData, type Recovery, storePath } from "./opening.js";
import { findMarked, sweepEarlierLives } from "./providers/marks.js";
import type { LiveProcess } from "./providers/process-table.js";
import { createProviders, shippedProviders } from "./providers/registry.js";
import { type RunAs, usersOf } from "./providers/run-as.js";
import { Credentials } from "./rpc/credentials.js";
import { Keys } from "./rpc/keys.js";
import { Reservations } from "./rpc/reservations.js";
import type { ServiceDeps } from "./rpc/service.js";
import { readTurnRequest } from "./rpc/turn-request.js";
import { maintain } from "./sessions/maintenance.js";
import { PendingActivity } from "./sessions/pending-activity.js";
import type { RotationReason, SessionRow } from "./sessions/session.js";
import type { PruneReport, ReservationOutcome } from "./sessions/session-store.js";
import { makePartial, removePartials, verifyCopy } from "./store/lmdb/backup.js";
import { freeBytes } from "./store/lmdb/disk.js";
import { needVerify } from "./store/lmdb/last-run.js";
import { DamagedStore, explainDamage } from "./store/lmdb/marker.js";
import { beginBackup, finishBackup } from "./store/lmdb/named-backups.js";
import type { OpenedStore } from "./store/lmdb/open.js";
import { dataFileName, schemaVersion } from "./store/lmdb/schema.js";
import { listSetAside } from "./store/lmdb/set-aside.js";
import { traceTurn } from "./trace-turn.js";
import { Chain } from "./turns/chain.js";
import { Dispatcher } from "./turns/dispatcher.js";
import { InternalTurns, isInternal } from "./turns/internal-turns.js";
import type { Provider } from "./turns/provider.js";
import { hasEnded, type TurnRow } from "./turns/turn.js";
import type { TurnStore } from "./turns/turn-store.js";
import { version } from "./version.js";
import { aheadFolder, openWorkspaces, removeWorkspace, workspaceOf } from "./workspaces.js";

export interface Broker extends AsyncDisposable {
  readonly service: ServiceDeps;
  readonly credentials: Credentials;
  readonly dispatcher: Dispatcher;
  readonly providers: ReadonlyMap<string, Provider>;
  readonly metrics: MetricsRecorder;
  /** In force, some of them as they were read last. */
  readonly settings: Settings;
  /** Puts in force what can be while it runs; tokens of the data directory are read again, too. */
  reload(settings: Settings): Reloaded;
}

export interface BrokerOptions {
  readonly settings: Settings;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  readonly clock?: Clock;
  /** What to do if the store is damaged. Default: refuse. */
  readonly recovery?: Recovery;
  /** The store can no longer be written by this process, which has to end. */
  readonly onLost: (error: Error) => void;
}

const activityEveryMs = 1_000;
const diskCheckEveryMs = 1_000;
/** For the step that maintenance is at; the store takes no further one once it is closing. */
const backgroundStopMs = 5_000;

/** Opens the store, ends what a former process left, and lets waiting turns run. */
export async function startBroker(options: BrokerOptions): Promise<Broker> {
  const { log, clock = systemClock } = options;
  const live = new LiveSettings(options.settings);
  const settings = live.view;
  prepareData(settings.data);
  const allCredentials = ({ credentials, data }: Settings) => [...credentials, ...defaultCredentials(data)];
  const credentials = new Credentials(allCredentials(settings));
  const path = storePath(settings.data);
  const providers = createProviders(settings.providers, options.environment);
  const users = usersOf(settings.providers);
  if (users.size > 0) openWorkspaces(settings);
  const metrics = new MetricsRecorder(
    {
      version,
      providers: [...providers.keys()],
      runningTurns: (provider) => dispatcher.runningOf(provider),
      waitingTurns: (provider) => dispatcher.waitingOf(provider),
      warmProcesses: (provider) => providers.get(provider)?.warmProcesses?.() ?? 0,
      stuckSessions: (provider) => dispatcher.stuck.countOf(provider),
      liveSessions: () => opened.store.liveSessions(),
      storeBytes: () => opened.bytes(),
      storesSetAside: () => listSetAside(settings.data).length,
    },
    clock.now,
  );
  const opened = await openData({
    settings,
    recovery: options.recovery ?? { kind: "refuse" },
    log,
    now: clock.now,
    onLost: options.onLost,
    onCommitted: (commands, tookMs) => metrics.committed(commands, tookMs),
  });
  // The store is this process's now, and with it what lies beside it.
  removePartials(settings.data);
  const turns = new InternalTurns(opened.store, clock);
  const chain = new Chain(signingKey(settings.data));
  let left: readonly LiveProcess[] = [];
  const leftBehind = (sessionId: string) =>
    left.filter(({ mark }) => mark?.endsWith(`/${sessionId}`)).map(({ pid }) => pid);
  const dispatcher = createDispatcher(
    { ...options, settings },
    opened,
    turns,
    providers,
    clock,
    metrics,
    leftBehind,
    chain,
    users,
  );
  left = await sweepEarlierLives(opened.storeId, opened.instance);
  if (left.length > 0) log.error({ left }, "processes of an earlier life cannot be ended");
  try {
    await opened.store.sweep(clock.now());
    await dispatcher.restart();
  } catch (error) {
    await opened[Symbol.asyncDispose]();
    const explained = explainDamage(error, path);
    if (explained instanceof DamagedStore) needVerify(settings.data, explained.what);
    throw explained;
  }
  const ahead = {
    directories: join(settings.workspaces, aheadFolder),
    mark: `${opened.storeId}/${opened.instance}`,
  };
  for (const provider of providers.values()) provider.startAhead?.(ahead);

  const activity = new PendingActivity();
  const touch = opened.store.touch.bind(opened.store);
  const writeActivity = () => activity.write(touch);
  const onPruned = (report: PruneReport) => metrics.pruned(report);
  const clockGuard = new ClockGuard(clock, (byMs) => {
    metrics.clockJumped();
    log.warn({ byMs }, "the wall clock jumped: sessions do not age until it has been steady for an hour");
  });
  const background = new Background();
  background.every(
    activityEveryMs,
    async (stopping) => {
      clockGuard.believed();
      await activity.writeDue(touch, clock.now(), stopping);
    },
    (error) => log.warn({ err: error }, "activity could not be written"),
  );
  const notMaintained = (error: unknown) =>
    log.warn({ err: error }, "the background maintenance failed and will be tried again");
  background.every(
    settings.maintenance.everyMs,
    async (stopping) => {
      const believed = clockGuard.believed();
      if (believed) {
        await maintain(opened.store, settings.maintenance, clock.now(), writeActivity, onPruned).catch(
          notMaintained,
        );
      }
      await opened.store.evictEvents({
        eventsForMs: believed ? settings.retention.eventsForMs : 0,
        eventsBytes: settings.retention.eventsBytes,
        nowMs: clock.now(),
        reading: () => dispatcher.reading(),
        stopping,
      });
    },
    notMaintained,
  );

  const keys = new Keys(
    (scope) => settings.scope(scope),
    new Set([...providers.keys(), ...shippedProviders]),
  );
  const reserving = {
    store: opened.store,
    turns,
    keys,
    activity,
    clock,
    clockGuard,
    newSessionId: randomUUID,
    settings,
    onRotated: async (row: SessionRow, reason: RotationReason) => {
      metrics.rotated(reason);
      logRotation(log, row, reason);
      const { scope, provider, externalId } = row.key;
      const id = { kind: "session-id", id: row.previousSessionId ?? "" } as const;
      const replaced = await opened.store.byId(id, { scopes: [scope], provider }, 16);
      const ofKey = replaced.filter((view) => view.row.key.externalId === externalId);
      await Promise.all(ofKey.map((view) => dispatcher.releaseAgent(view.row)));
    },
    onReserved: (outcome: ReservationOutcome) => metrics.reserved(outcome),
  };
  return {
    credentials,
    dispatcher,
    providers,
    metrics,
    settings,
    reload(next) {
      // What fails leaves everything as it was.
      const nextCredentials = allCredentials({ ...next, data: settings.data });
      const reloaded = live.replace(next);
      credentials.replace(nextCredentials);
      return reloaded;
    },
    service: {
      ...reserving,
      onPruned,
      reservations: new Reservations(reserving),
      dispatcher,
      chain,
      providers,
      signingKey: signingKey(settings.data),
      checkDisk: diskGuard(path, () => settings.limits.diskReserveBytes, clock),
      backups: backupsOf(settings, opened),
      settings,
      version,
      startedAtMs: clock.now(),
      storeState: () => ({
        path,
        bytes: opened.bytes(),
        schemaVersion,
        sessions: opened.store.liveSessions(),
        setAside: listSetAside(settings.data),
        ...(opened.restored === undefined ? {} : { restored: opened.restored }),
      }),
    },
    async [Symbol.asyncDispose]() {
      await background.stop(backgroundStopMs);
      for (const provider of providers.values()) await provider.close();
      await writeActivity().catch(() => {});
      await opened[Symbol.asyncDispose]();
    },
  };
}

function createDispatcher(
  { settings, log }: BrokerOptions,
  opened: OpenedStore,
  turns: TurnStore,
  providers: ReadonlyMap<string, Provider>,
  clock: Clock,
  metrics: MetricsRecorder,
  leftBehind: (sessionId: string) => readonly number[],
  chain: Chain,
  users: ReadonlyMap<string, RunAs>,
): Dispatcher {
  const firstTextMs = new Map<number, number>();
  return new Dispatcher({
    leftBehind,
    chainAfter: (link, text) => chain.after(link, { author: "assistant", text }),
    store: turns,
    clock,
    providers,
    limits: {
      running: settings.limits.runningTurns,
      get waiting() {
        return settings.limits.waitingTurns;
      },
      get waitingInSession() {
        return settings.limits.waitingTurnsPerSession;
      },
      get waitingOfGrant() {
        return settings.limits.waitingTurnsPerGrant;
      },
      collectDebounceMs: settings.limits.collectDebounceMs,
      get readersPerTurn() {
        return settings.limits.readersPerTurn;
      },
      readerBufferBytes: settings.limits.readerBufferBytes,
    },
    newNativeId: randomUUID,
    workspace: (grant, prepared) =>
      workspaceOf(settings, grant, prepared, users.get(grant.session.key.provider)),
    childMark: (sessionId) => `${opened.storeId}/${opened.instance}/${sessionId}`,
    stillRunning: async (pids) => {
      const marked = await findMarked(() => true);
      return pids.filter((pid) => marked.some((found) => found.pid === pid));
    },
    readRequest: readTurnRequest,
    log: (message, error) => log.error({ err: error }, message),
    traceTurn,
    onStarted: (turn) => metrics.turnStarted(turn),
    onFirstText: (turn) => {
      firstTextMs.set(turn.turnNo, clock.now() - turn.createdAtMs);
      metrics.firstText(turn);
    },
    onEnded: (turn) => {
      metrics.turnEnded(turn);
      logTurn(log, turn, firstTextMs.get(turn.turnNo));
      firstTextMs.delete(turn.turnNo);
      if (isInternal(turn.turnNo)) removeWorkspace(settings, turn, log);
    },
  });
}

/** Copies of the store, beside it while they are sent. */
function backupsOf({ data, backups }: Settings, opened: OpenedStore): ServiceDeps["backups"] {
  const copyInto = async (directory: string, onVerifying: () => void) => {
    try {
      const takenAtMs = await opened.copyTo(directory);
      onVerifying();
      await verifyCopy(directory);
      return { directory, file: join(directory, dataFileName), takenAtMs };
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      if (!(error instanceof DamagedStore)) throw error;
      throw new BrokerError("STORE_DAMAGED", `${error.what}; run session-broker verify`);
    }
  };
  return {
    checkRoom: (named) => {
      const needed = 2 * opened.bytes();
      const free = freeBytes(named ? nearestDirectory(backups) : data);
      if (free >= needed) return;
      throw new BrokerError(
        "DISK_LOW",
        `a copy of the store needs ${needed} bytes free, and there are ${free}`,
      );
    },
    copy: (onVerifying) => copyInto(makePartial(data, "backup"), onVerifying),
    keep: async (name, onVerifying) => {
      const { directory, takenAtMs } = await copyInto(beginBackup(backups, name), onVerifying);
      const { file } = await finishBackup(directory, takenAtMs);
      return { path: dirname(file), bytes: statSync(file).size };
    },
  };
}

/** The directory, or the one above in which it will be made. */
function nearestDirectory(path: string): string {
  return existsSync(path) || dirname(path) === path ? path : nearestDirectory(dirname(path));
}

/** Refuses turns while the disk is low; asks the system at most once a second. */
function diskGuard(path: string, reserveBytes: () => number, clock: Clock): () => void {
  let checkedAtMs = Number.NEGATIVE_INFINITY;
  let free = Number.POSITIVE_INFINITY;
  return () => {
    if (clock.now() - checkedAtMs >= diskCheckEveryMs) {
      checkedAtMs = clock.now();
      free = freeBytes(path);
    }
    if (free >= reserveBytes()) return;
    throw new BrokerError(
      "DISK_LOW",
      `the disk of the store has ${free} bytes left, less than the reserve`,
      {},
      5_000,
    );
  };
}

function logRotation(log: Logger, row: SessionRow, reason: RotationReason): void {
  const { key, sessionId, previousSessionId, generation } = row;
  log.info(
    {
      session: sessionId,
      previous: previousSessionId,
      scope: key.scope,
      provider: key.provider,
      generation,
      reason,
    },
    "session rotated",
  );
}

/** @param firstTextMs from admission; absent: there was none */
function logTurn(log: Logger, turn: TurnRow, firstTextMs: number | undefined): void {
  const { usage } = turn;
  const endedAtMs = turn.endedAtMs ?? turn.startedAtMs ?? turn.createdAtMs;
  // A turn that never ran has waited to its end.
  const startedAtMs = turn.startedAtMs ?? endedAtMs;
  log.info(
    {
      turn: turn.turnId,
      session: turn.sessionId,
      scope: turn.key.scope,
      provider: turn.key.provider,
      ending: hasEnded(turn.state) ? turn.state : undefined,
      queueMs: startedAtMs - turn.createdAtMs,
      firstTextMs,
      totalMs: endedAtMs - turn.createdAtMs,
      inputTokens: usage.inputTokens + usage.cacheReadTokens + usage.cacheWriteTokens,
      outputTokens: usage.outputTokens,
      costUsd: usage.costUsd,
    },
    "turn ended",
  );
}
