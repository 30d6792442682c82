import { Code, ConnectError, createClient, createRouterTransport } from "@connectrpc/connect";
import { beforeEach, describe, expect, it } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { BrokerError } from "../errors.js";
import type { EndedRpc } from "../metrics/record.js";
import { errorInterceptor } from "./errors.js";
import { metricsInterceptor } from "./metrics.js";

const ended: EndedRpc[] = [];
let failure: unknown;

beforeEach(() => {
  ended.length = 0;
  failure = undefined;
});

function fail(): void {
  if (failure !== undefined) throw failure;
}

const transport = createRouterTransport(
  (router) => {
    router.service(SessionBroker, {
      getServerInfo: () => {
        fail();
        return {};
      },
      async *watchSessions() {
        yield {};
        fail();
        yield {};
      },
      async importSessions(requests) {
        for await (const _ of requests);
        return {};
      },
    });
    router.service(Health, { check: () => ({}) });
  },
  {
    router: {
      interceptors: [
        metricsInterceptor([SessionBroker], (rpc) => ended.push(rpc)),
        errorInterceptor(() => {}),
      ],
    },
  },
);
const client = createClient(SessionBroker, transport);

/** Method and outcome of the RPCs that have ended; each has a time. */
function outcomes() {
  for (const { seconds } of ended) expect(seconds).toBeGreaterThanOrEqual(0);
  return ended.map(({ seconds: _, ...rest }) => rest);
}

const service = "sessionbroker.v1.SessionBroker";

describe("an RPC", () => {
  it("that is answered is ok", async () => {
    await client.getServerInfo({});
    expect(outcomes()).toEqual([{ method: `${service}/GetServerInfo`, code: "ok" }]);
  });

  it.each([
    [new BrokerError("DISK_LOW", "full"), "resource_exhausted", "DISK_LOW"],
    [new ConnectError("no", Code.InvalidArgument), "invalid_argument", "INVALID_FIELD"],
    [new ConnectError("later", Code.Unavailable), "unavailable", undefined],
    [new TypeError("defect"), "internal", "INTERNAL"],
  ])("that fails has the code and the reason that the caller is told (%#)", async (error, code, reason) => {
    failure = error;
    await expect(client.getServerInfo({})).rejects.toThrow(ConnectError);
    const told = { code, ...(reason === undefined ? {} : { reason }) };
    expect(outcomes()).toEqual([{ method: `${service}/GetServerInfo`, ...told }]);
  });

  it("that the contract has and the broker has not is known by name", async () => {
    await expect(client.listUsage({})).rejects.toThrow(ConnectError);
    expect(outcomes()).toEqual([{ method: `${service}/ListUsage`, code: "unimplemented" }]);
  });

  it("of a service that is not named is other", async () => {
    await createClient(Health, transport).check({});
    expect(outcomes()).toEqual([{ method: "other", code: "ok" }]);
  });
});

describe("a stream", () => {
  it("of answers ends with its last message", async () => {
    let received = 0;
    for await (const _ of client.watchSessions({})) {
      received += 1;
      if (received === 1) expect(ended).toEqual([]);
    }
    expect(received).toBe(2);
    expect(outcomes()).toEqual([{ method: `${service}/WatchSessions`, code: "ok" }]);
  });

  it("that fails in the middle has that code", async () => {
    failure = new BrokerError("REVISION_EXPIRED", "gone");
    const read = async () => {
      for await (const _ of client.watchSessions({}));
    };
    await expect(read()).rejects.toThrow("gone");
    expect(outcomes()).toEqual([
      { method: `${service}/WatchSessions`, code: "out_of_range", reason: "REVISION_EXPIRED" },
    ]);
  });

  it("of requests is one RPC", async () => {
    await client.importSessions(
      (async function* () {
        yield {};
        yield {};
      })(),
    );
    expect(outcomes()).toEqual([{ method: `${service}/ImportSessions`, code: "ok" }]);
  });
});
