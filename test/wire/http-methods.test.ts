/** Each RPC with each HTTP method, over HTTP/1.1 and HTTP/2. */
import { once } from "node:events";
import { connect } from "node:http2";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { TestBroker } from "../support/broker.js";

let broker: TestBroker;

beforeAll(async () => {
  broker = await TestBroker.start();
});

afterAll(() => broker.close());

interface Answer {
  readonly status: number;
  readonly allow: string | undefined;
}

const ways: Record<string, (path: string, method: string) => Promise<Answer>> = {
  async "HTTP/1.1"(path, method) {
    const response = await fetch(`${broker.url}${path}`, { method });
    await response.arrayBuffer();
    return { status: response.status, allow: response.headers.get("allow") ?? undefined };
  },
  async "HTTP/2"(path, method) {
    const session = connect(broker.url);
    try {
      const request = session.request({ ":path": path, ":method": method }).end();
      const [headers] = await once(request, "response");
      request.resume();
      await once(request, "close");
      return { status: headers[":status"], allow: headers.allow };
    } finally {
      session.close();
    }
  },
};

describe.each(Object.entries(ways))("over %s", (_, ask) => {
  it("says which methods an RPC has", async () => {
    for (const { typeName, methods } of [SessionBroker, Health]) {
      for (const { name, methodKind, idempotency } of methods) {
        const readsOnly =
          methodKind === "unary" && idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
        const refused = { status: 405, allow: readsOnly ? "GET, POST" : "POST" };
        const path = `/${typeName}/${name}`;
        for (const method of ["PUT", "DELETE", "OPTIONS"]) {
          expect([path, method, await ask(path, method)]).toEqual([path, method, refused]);
        }
        const got = await ask(`${path}?connect=v1&encoding=json&message=%7B%7D`, "GET");
        if (readsOnly) expect([path, got.status]).toEqual([path, 401]);
        else expect([path, got]).toEqual([path, refused]);
      }
    }
  });

  it("knows no other path", async () => {
    expect(await ask("/nothing", "GET")).toEqual({ status: 404, allow: undefined });
  });
});
