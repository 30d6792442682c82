// The broker's doors, short way and interceptors, before a service that does
// nothing but stream: what plain connect-node is compared with. The caller is a
// credential with a token, as in the broker. Prints its port and the token.
import { createHash } from "node:crypto";
import { setMaxListeners } from "node:events";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { Role } from "../../dist/gen/sessionbroker/v1/options_pb.js";
import { SessionBroker } from "../../dist/gen/sessionbroker/v1/session_broker_pb.js";
import { Credentials } from "../../dist/src/rpc/credentials.js";
import { serviceInterceptors } from "../../dist/src/rpc/service.js";
import { tracingInterceptor } from "../../dist/src/rpc/tracing.js";
import { withFastPath } from "../../dist/src/server/fast-path/index.js";
import { listen } from "../../dist/src/server/one-port.js";
import { attach } from "./deltas.mjs";

const token = "a-token-of-the-benchmark";
const tokenSha256 = createHash("sha256").update(token).digest("hex");
const credentials = new Credentials([{ name: "bench", tokenSha256, role: Role.DISPATCH, scopes: ["*"] }]);
const report = (...what) => console.error(...what);
const shutdown = new AbortController();
// Each request that runs listens to it, as in the broker.
setMaxListeners(0, shutdown.signal);
const options = {
  routes: (router) => router.service(SessionBroker, { attach }),
  interceptors: [tracingInterceptor(), ...serviceInterceptors(() => credentials, report)],
  jsonOptions: { ignoreUnknownFields: false },
  readMaxBytes: 32 * 2 ** 20,
  shutdownSignal: shutdown.signal,
};
const served = withFastPath(options, connectNodeAdapter(options), report);
const { port } = await listen({ host: "127.0.0.1", port: 0, ...served });
console.log(JSON.stringify({ http: port, http2: port, token }));
process.once("SIGTERM", () => process.exit());
