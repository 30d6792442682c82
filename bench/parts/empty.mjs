// An empty RPC: what a call costs before it does anything.
import { contest } from "../contest.mjs";
import { h2load, wrk } from "../load.mjs";
import { emptyOverGrpc, emptyOverHttp } from "./requests.mjs";

export async function empty(given) {
  const { servers, report, plan } = given;
  const context = { ...given, plan: { ...plan, rounds: plan.barRounds } };
  const [broker, connect] = [await servers.broker(), await servers.connectNode()];
  const [grpcJs, bare] = [await servers.grpcJs(), await servers.bareHttp()];
  const overHttp = (name, { pid, http }) => {
    const request = emptyOverHttp(http);
    return { name, pid, load: (plan) => wrk(request, plan) };
  };
  const overGrpc = (name, { pid, http2 }) => {
    const request = emptyOverGrpc(http2);
    return { name, pid, load: (plan) => h2load(request, plan) };
  };
  const own = { pid: broker.pid, http: broker.port, http2: broker.port };
  const [plainHttp, ownHttp, bareHttp] = await contest(context, "empty RPC, HTTP/1.1", [
    overHttp("plain connect-node", connect),
    overHttp("session-broker", own),
    overHttp("bare node:http", bare),
  ]);
  const [plainGrpc, ownGrpc, plainGrpcJs] = await contest(context, "empty RPC, gRPC", [
    overGrpc("plain connect-node", connect),
    overGrpc("session-broker", own),
    overGrpc("@grpc/grpc-js", grpcJs),
  ]);
  report.bar("empty RPC over HTTP/1.1, of plain connect-node", ownHttp / plainHttp, 5);
  report.bar("empty RPC over gRPC, of plain connect-node", ownGrpc / plainGrpc, 5);
  report.bar("empty RPC over gRPC, of @grpc/grpc-js", ownGrpc / plainGrpcJs, 1);
  report.bar("empty RPC over HTTP/1.1, of bare node:http", ownHttp / bareHttp, 0.7);
}
