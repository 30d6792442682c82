import { createClient, createRouterTransport } from "@connectrpc/connect";
import { expect, it } from "vitest";
import { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";
import { createServerInfo } from "./server-info.js";

it("asks once in a while for each credential, and again after a failure", async () => {
  const asked: (string | null)[] = [];
  let failing = false;
  const transport = createRouterTransport(({ service }) => {
    service(SessionBroker, {
      getServerInfo(_, { requestHeader }) {
        asked.push(requestHeader.get("authorization"));
        if (failing) throw new Error("down");
        return { baseScope: requestHeader.get("authorization") ?? "" };
      },
    });
  });
  let nowMs = 0;
  const serverInfo = createServerInfo(createClient(SessionBroker, transport), () => nowMs);

  const [first] = await Promise.all([serverInfo("a"), serverInfo("a")]);
  expect(first.baseScope).toBe("a");
  expect((await serverInfo("b")).baseScope).toBe("b");
  expect(asked).toEqual(["a", "b"]);

  nowMs = 60_000;
  failing = true;
  await expect(serverInfo("a")).rejects.toThrow();
  failing = false;
  expect((await serverInfo("a")).baseScope).toBe("a");
  expect(asked).toEqual(["a", "b", "a", "a"]);
});
