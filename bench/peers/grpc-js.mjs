// @grpc/grpc-js with the same health service. Prints its port.
import { fileURLToPath } from "node:url";
import { loadPackageDefinition, Server, ServerCredentials } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const proto = fileURLToPath(new URL("../../proto/grpc/health/v1/health.proto", import.meta.url));
const { service } = loadPackageDefinition(loadSync(proto)).grpc.health.v1.Health;
const server = new Server();
server.addService(service, { Check: (_call, answer) => answer(null, { status: "SERVING" }) });
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error !== null) throw error;
  console.log(JSON.stringify({ http2: port }));
});
