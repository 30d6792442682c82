/** grpc.health.v1, for load balancers and supervisors. */
import { Code, ConnectError, type ConnectRouter } from "@connectrpc/connect";
import {
  Health,
  HealthCheckResponse_ServingStatus as ServingStatus,
} from "../../gen/grpc/health/v1/health_pb.js";
import { openToAll } from "./open-to-all.js";

export { ServingStatus };

export interface HealthState {
  /** The status of the server and of each of its services. */
  readonly status: ServingStatus;
  /** Watchers are told at once. */
  set(status: ServingStatus): void;
  readonly routes: (router: ConnectRouter) => void;
}

/**
 * Health of a server with these services, NOT_SERVING until `set` says
 * otherwise. The empty service name stands for the server as a whole.
 *
 * @param parts by name: NOT_SERVING as long as the function answers false, whatever the others are
 */
export function createHealth(
  services: readonly string[],
  parts: Readonly<Record<string, () => boolean>> = {},
): HealthState {
  const known = new Set(["", ...services, ...Object.keys(parts)]);
  const statusOf = (service: string): ServingStatus =>
    parts[service]?.() === false ? ServingStatus.NOT_SERVING : status;
  const waiting = new Set<() => void>();
  let status = ServingStatus.NOT_SERVING;

  /** Resolves at the next change, or when the signal is aborted. */
  function changed(signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wake = () => {
        waiting.delete(wake);
        signal.removeEventListener("abort", wake);
        resolve();
      };
      waiting.add(wake);
      signal.addEventListener("abort", wake);
    });
  }

  return {
    get status() {
      return status;
    },
    set(next) {
      if (next === status) return;
      status = next;
      for (const wake of [...waiting]) wake();
    },
    routes(router) {
      router.service(
        Health,
        {
          check({ service }) {
            if (!known.has(service)) throw new ConnectError(`unknown service ${service}`, Code.NotFound);
            return { status: statusOf(service) };
          },
          list() {
            const statuses = [...known].map((service) => [service, { status: statusOf(service) }]);
            return { statuses: Object.fromEntries(statuses) };
          },
          async *watch({ service }, { signal }) {
            let sent: ServingStatus | undefined;
            for (;;) {
              signal.throwIfAborted();
              const current = known.has(service) ? statusOf(service) : ServingStatus.SERVICE_UNKNOWN;
              if (current === sent) {
                await changed(signal);
              } else {
                yield { status: current };
                sent = current;
              }
            }
          },
        },
        openToAll,
      );
    },
  };
}
