import { createClient, createRouterTransport } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";
import { ServerInfo } from "./server-info.js";

/** A broker that answers with how often each credential has asked, and is down if that is said. */
function counting() {
  const asked: (string | null)[] = [];
  const state = { down: false, nowMs: 0 };
  const transport = createRouterTransport(({ service }) => {
    service(SessionBroker, {
      getServerInfo(_, { requestHeader }) {
        const authorization = requestHeader.get("authorization");
        asked.push(authorization);
        if (state.down) throw new Error("down");
        return { baseScope: `${authorization}${asked.length}` };
      },
    });
  });
  const info = new ServerInfo(createClient(SessionBroker, transport), () => state.nowMs);
  const scopeOf = async (answer: ReturnType<ServerInfo["current"]>) => (await answer).baseScope;
  return {
    ...{ asked, state },
    current: (authorization: string) => scopeOf(info.current(authorization)),
    recent: (authorization: string) => scopeOf(info.recent(authorization)),
  };
}

it("asks once in a while for each credential, and again after a failure", async () => {
  const { asked, state, current, recent } = counting();
  expect(await Promise.all([current("a"), current("a"), recent("a")])).toEqual(["a1", "a1", "a1"]);
  expect(await recent("b")).toBe("b2");
  expect(asked).toEqual(["a", "b"]);

  state.nowMs = 60_000;
  state.down = true;
  await expect(current("a")).rejects.toThrow();
  state.down = false;
  expect(await current("a")).toBe("a4");
});

it("asks again without a wait where an answer of the last minute will do", async () => {
  const { asked, state, current, recent } = counting();
  await recent("a");
  state.nowMs = 5_000;
  expect(await Promise.all([recent("a"), recent("a")])).toEqual(["a1", "a1"]);
  await expect.poll(() => recent("a")).toBe("a2");
  expect(asked).toEqual(["a", "a"]);

  state.nowMs = 69_999;
  expect(await recent("a")).toBe("a2");
  await expect.poll(() => recent("a")).toBe("a3");
  state.nowMs += 65_000;
  expect(await recent("a")).toBe("a4");

  state.nowMs += 5_000;
  expect(await Promise.all([recent("a"), current("a")])).toEqual(["a4", "a5"]);
});

it("is told of a failure by the call after the one that did not wait", async () => {
  const { state, recent } = counting();
  await recent("a");
  state.nowMs = 5_000;
  state.down = true;
  expect(await recent("a")).toBe("a1");
  await expect.poll(() => recent("a").catch(() => "refused")).toBe("refused");
});
