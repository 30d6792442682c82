// Plain connect-node: the generated service on node:http and node:http2, with
// its defaults and no interceptor. Run as a program; prints its ports.
import { createServer } from "node:http";
import { createServer as createHttp2Server } from "node:http2";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Health } from "../../dist/gen/grpc/health/v1/health_pb.js";
import { SessionBroker } from "../../dist/gen/sessionbroker/v1/session_broker_pb.js";
import { attach } from "./deltas.mjs";

const handler = connectNodeAdapter({
  routes: (router) => {
    router.service(Health, { check: () => ({ status: 1 }) });
    router.service(SessionBroker, { attach });
  },
});
const servers = [createServer(handler), createHttp2Server(handler)];
for (const server of servers) await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const [http, http2] = servers.map((server) => server.address().port);
console.log(JSON.stringify({ http, http2 }));
