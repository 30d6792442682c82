import { Code, createClient, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { createHealth, ServingStatus } from "./health.js";

function start() {
  const health = createHealth(["a.v1.A"]);
  return { health, client: createClient(Health, createRouterTransport(health.routes)) };
}

describe("health", () => {
  it("is NOT_SERVING until told otherwise", async () => {
    const { health, client } = start();
    expect((await client.check({})).status).toBe(ServingStatus.NOT_SERVING);
    health.set(ServingStatus.SERVING);
    expect(health.status).toBe(ServingStatus.SERVING);
    expect((await client.check({})).status).toBe(ServingStatus.SERVING);
    expect((await client.check({ service: "a.v1.A" })).status).toBe(ServingStatus.SERVING);
    expect((await client.list({})).statuses).toMatchObject({
      "": { status: ServingStatus.SERVING },
      "a.v1.A": { status: ServingStatus.SERVING },
    });
  });

  it("of a part is its own, and never better than that of the server", async () => {
    let isWell = true;
    const health = createHealth(["a.v1.A"], { part: () => isWell });
    const client = createClient(Health, createRouterTransport(health.routes));
    const statusOf = async (service: string) => (await client.check({ service })).status;
    expect(await statusOf("part")).toBe(ServingStatus.NOT_SERVING);
    health.set(ServingStatus.SERVING);
    expect(await statusOf("part")).toBe(ServingStatus.SERVING);
    isWell = false;
    expect([await statusOf("part"), await statusOf("")]).toEqual([
      ServingStatus.NOT_SERVING,
      ServingStatus.SERVING,
    ]);
    expect((await client.list({})).statuses).toMatchObject({ part: { status: ServingStatus.NOT_SERVING } });
  });

  it("does not know other services", async () => {
    const { health, client } = start();
    await expect(client.check({ service: "b" })).rejects.toMatchObject({ code: Code.NotFound });
    const stop = new AbortController();
    const watch = client.watch({ service: "b" }, { signal: stop.signal })[Symbol.asyncIterator]();
    expect((await watch.next()).value?.status).toBe(ServingStatus.SERVICE_UNKNOWN);
    const next = watch.next();
    health.set(ServingStatus.SERVING);
    stop.abort();
    await expect(next).rejects.toMatchObject({ code: Code.Canceled });
  });

  it("tells watchers the present status and each later one", async () => {
    const { health, client } = start();
    const stop = new AbortController();
    const watch = client.watch({}, { signal: stop.signal })[Symbol.asyncIterator]();
    expect((await watch.next()).value?.status).toBe(ServingStatus.NOT_SERVING);
    const second = watch.next();
    health.set(ServingStatus.SERVING);
    expect((await second).value?.status).toBe(ServingStatus.SERVING);
    const third = watch.next();
    health.set(ServingStatus.SERVING);
    health.set(ServingStatus.NOT_SERVING);
    expect((await third).value?.status).toBe(ServingStatus.NOT_SERVING);
    const last = watch.next();
    stop.abort();
    await expect(last).rejects.toMatchObject({ code: Code.Canceled });
  });
});
