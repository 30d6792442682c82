// The requests of the parts, as load.mjs takes them.
import { randomBytes } from "node:crypto";
import { wrk } from "../load.mjs";

const service = "sessionbroker.v1.SessionBroker";
const health = "grpc.health.v1.Health/Check";

/** An empty RPC: Connect with JSON, over HTTP/1.1. */
export const emptyOverHttp = (port) => ({ url: `http://127.0.0.1:${port}/${health}`, body: "{}" });

/** The same as gRPC. */
export const emptyOverGrpc = (port) => ({ url: `http://127.0.0.1:${port}/${health}` });

/**
 * The bare form of keyOf, idOf and aliasOf in rows.mjs, with a number for the generator of load. A gateway
 * knows its scope: tenant-0 has every tenth session. What has no scope looks in all ten, for which there
 * is no bar.
 */
export const lookups = {
  "Reserve, existing": {
    method: "Reserve",
    body: JSON.stringify({ key: { scope: "tenant-0", externalId: "chat-%d", provider: "echo" } }),
    step: 10,
  },
  "ResolveSelection by key": {
    method: "ResolveSelection",
    body: JSON.stringify({ key: { scope: "tenant-0", externalId: "chat-%d", provider: "echo" } }),
    step: 10,
  },
  "ResolveSelection by session id": {
    method: "ResolveSelection",
    body: JSON.stringify({ sessionId: "00000000-0000-4000-8000-%012x", scope: "tenant-0" }),
    step: 10,
  },
  "ResolveSelection by alias": {
    method: "ResolveSelection",
    body: JSON.stringify({ alias: "alias-%d", scope: "tenant-0" }),
    step: 10,
  },
  "ResolveSelection by session id, in ten scopes": {
    method: "ResolveSelection",
    body: JSON.stringify({ sessionId: "00000000-0000-4000-8000-%012x" }),
    step: 1,
    hasBar: false,
  },
};

/** Asks for sessions that exist, drawn at random. */
export function lookup(server, { method, body, step }) {
  const { url, token } = server;
  const request = {
    url: `${url}/${service}/${method}`,
    token,
    body,
    numbers: Math.floor(server.rows / step),
    step,
  };
  return (plan) => wrk(request, plan);
}

/** Each request has a key of its own that nobody used before. */
export function reserveNew({ url, token }) {
  return (plan) => {
    const externalId = `new-${randomBytes(6).toString("hex")}-%d`;
    const body = JSON.stringify({ key: { scope: "fresh", externalId, provider: "echo" } });
    return wrk({ url: `${url}/${service}/Reserve`, token, body, numbers: "count" }, plan);
  };
}

/** A call whose answer is a stream. The message is made anew for each run. */
export function streamed({ url, token }, method, message, numbers = 1) {
  return (plan) => {
    const body = JSON.stringify(message(randomBytes(6).toString("hex")));
    return wrk({ url: `${url}/${service}/${method}`, token, body, numbers, enveloped: true }, plan);
  };
}
