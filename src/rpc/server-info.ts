import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import type { ServiceImpl } from "@connectrpc/connect";
import { GetServerInfoResponseSchema } from "../../gen/sessionbroker/v1/admin_pb.js";
import type { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import type { Settings } from "../config/config.js";
import type { Restored } from "../store/lmdb/restored.js";
import type { SetAside } from "../store/lmdb/set-aside.js";
import type { Dispatcher } from "../turns/dispatcher.js";
import type { Provider } from "../turns/provider.js";
import { callerOf } from "./caller.js";

export interface ServerInfoDeps {
  readonly settings: Settings;
  readonly version: string;
  readonly startedAtMs: number;
  readonly providers: ReadonlyMap<string, Provider>;
  readonly dispatcher: Dispatcher;
  readonly storeState: () => {
    readonly path: string;
    readonly bytes: number;
    readonly schemaVersion: number;
    readonly sessions: number;
    readonly setAside: readonly SetAside[];
    readonly restored?: Restored;
  };
}

export function serverInfoMethod(
  deps: ServerInfoDeps,
): Pick<ServiceImpl<typeof SessionBroker>, "getServerInfo"> {
  return {
    async getServerInfo(_request, context) {
      const caller = callerOf(context);
      const { setAside, restored, ...store } = deps.storeState();
      const { limits } = deps.settings;
      return create(GetServerInfoResponseSchema, {
        version: deps.version,
        startedAt: timestampFromMs(deps.startedAtMs),
        store: {
          ...store,
          bytes: BigInt(store.bytes),
          sessions: BigInt(store.sessions),
          setAside: setAside.map(({ path, atMs, what, successor }) => ({
            path,
            time: timestampFromMs(atMs),
            problem: what,
            restored: successor === "restored",
          })),
          ...(restored === undefined
            ? {}
            : {
                restoredFrom: timestampFromMs(restored.takenAtMs),
                restoredAt: timestampFromMs(restored.restoredAtMs),
              }),
        },
        providers: await Promise.all(
          [...deps.providers.values()].map((provider) => providerState(deps, provider)),
        ),
        limits: {
          waitingTurnsPerSession: limits.waitingTurnsPerSession,
          waitingTurns: limits.waitingTurns,
          runningTurns: limits.runningTurns,
          messageBytes: BigInt(limits.messageBytes),
          promptBytes: BigInt(limits.promptBytes),
          historyBytes: BigInt(limits.historyBytes),
          waitingTurnsPerGrant: limits.waitingTurnsPerGrant,
          streamsPerConnection: limits.streamsPerConnection,
          headerBytes: limits.headerBytes,
          headerFields: limits.headerFields,
          readersPerTurn: limits.readersPerTurn,
          sessionsPerScope: limits.sessionsPerScope,
        },
        runningTurns: deps.dispatcher.running,
        queuedTurns: deps.dispatcher.waiting,
        draining: deps.dispatcher.draining,
        baseScope: caller.baseScope,
        acceptedOrigins: [...caller.origins],
      });
    },
  };
}

async function providerState(deps: ServerInfoDeps, provider: Provider) {
  const { id, kind, capabilities } = provider;
  const { assignsNativeId: _, ...flags } = capabilities;
  return {
    id,
    kind,
    models: [...provider.models],
    ...(await provider.health()),
    capabilities: flags,
    runningTurns: deps.dispatcher.runningOf(id),
    stuckSessions: deps.dispatcher.stuck.countOf(id),
  };
}
