/**
 * The server under test of the public conformance suite for Connect, gRPC and
 * gRPC-Web: our own port with the suite's service behind it. Told on stdin what
 * to serve, it says on stdout where, and serves until it is told to stop.
 *
 *     node conformance-server.mjs DESCRIPTORS on|off
 *
 * DESCRIPTORS is the suite's own contract as a FileDescriptorSet; the second word
 * says whether the fast path is in front of connect-node.
 */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { create, createFileRegistry, fromBinary, toBinary } from "@bufbuild/protobuf";
import { anyPack, FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";
import { ConnectError } from "@connectrpc/connect";
import { connectNodeAdapter } from "@connectrpc/connect-node";
import { withFastPath } from "../../dist/src/server/fast-path/index.js";
import { withPlainGrpcMessages } from "../../dist/src/server/grpc-compat.js";
import { listen } from "../../dist/src/server/one-port.js";
import { withRefusedBodies } from "../../dist/src/server/unread-body.js";

process.once("SIGTERM", () => process.exit());
const [, , descriptors, fastPath] = process.argv;
const registry = createFileRegistry(fromBinary(FileDescriptorSetSchema, readFileSync(descriptors)));
const suite = "connectrpc.conformance.v1";
const service = registry.getService(`${suite}.ConformanceService`);
const messageOf = (name) => registry.getMessage(`${suite}.${name}`);
const payloadOf = (fields) => create(messageOf("ConformancePayload"), fields);

const implementation = {
  async unary(request, context) {
    return { payload: await answer(request.responseDefinition, [request], context) };
  },

  async idempotentUnary(request, context) {
    return { payload: await answer(request.responseDefinition, [request], context) };
  },

  async clientStream(requests, context) {
    const all = [];
    for await (const request of requests) all.push(request);
    return { payload: await answer(all[0]?.responseDefinition, all, context) };
  },

  async *serverStream(request, context) {
    yield* answers(request.responseDefinition, [request], context, 0);
  },

  async *bidiStream(requests, context) {
    let definition;
    let received = [];
    let sent = 0;
    let fullDuplex = false;
    for await (const request of requests) {
      received.push(request);
      if (definition === undefined) {
        definition = request.responseDefinition;
        fullDuplex = request.fullDuplex;
      }
      if (!fullDuplex) continue;
      const data = definition?.responseData[sent];
      if (data === undefined) break;
      if (sent === 0) setHeaders(definition, context);
      await delay(definition.responseDelayMs);
      const requestInfo = sent === 0 ? infoOf(received, context) : requestsOf(received);
      yield { payload: payloadOf({ data, requestInfo }) };
      received = [];
      sent++;
    }
    yield* answers(definition, received, context, sent);
  },
};

async function answer(definition, requests, context) {
  const requestInfo = infoOf(requests, context);
  setHeaders(definition, context);
  await delay(definition?.responseDelayMs ?? 0);
  const { case: kind, value } = definition?.response ?? {};
  if (kind === "error") throw errorOf(value, requestInfo);
  return payloadOf(kind === "responseData" ? { data: value, requestInfo } : { requestInfo });
}

/** What is left to send, and the ending. */
async function* answers(definition, requests, context, alreadySent) {
  if (definition === undefined) return;
  if (alreadySent === 0) setHeaders(definition, context);
  for (const [at, data] of definition.responseData.entries()) {
    if (at < alreadySent) continue;
    await delay(definition.responseDelayMs);
    yield { payload: payloadOf(at === 0 ? { data, requestInfo: infoOf(requests, context) } : { data }) };
  }
  if (definition.error === undefined) return;
  const nothingSent = alreadySent === 0 && definition.responseData.length === 0;
  throw errorOf(definition.error, nothingSent ? infoOf(requests, context) : undefined);
}

function setHeaders(definition, { responseHeader, responseTrailer }) {
  for (const { name, value } of definition?.responseHeaders ?? []) {
    for (const each of value) responseHeader.append(name, each);
  }
  for (const { name, value } of definition?.responseTrailers ?? []) {
    for (const each of value) responseTrailer.append(name, each);
  }
}

function errorOf({ message, code, details }, requestInfo) {
  const error = new ConnectError(message ?? "", code);
  error.details = details.map(({ typeUrl, value }) => ({ type: typeUrl.split("/").at(-1), value }));
  if (requestInfo !== undefined) {
    error.details.push({ desc: messageOf("ConformancePayload.RequestInfo"), value: requestInfo });
  }
  return error;
}

function infoOf(requests, context) {
  const timeoutMs = context.timeoutMs();
  const query = new URL(context.url).searchParams;
  return create(messageOf("ConformancePayload.RequestInfo"), {
    requestHeaders: [...context.requestHeader].map(([name, value]) => ({ name, value: [value] })),
    ...(timeoutMs === undefined ? {} : { timeoutMs: BigInt(Math.trunc(timeoutMs)) }),
    ...requestsOf(requests),
    ...(context.requestMethod === "GET"
      ? { connectGetInfo: { queryParams: [...query].map(([name, value]) => ({ name, value: [value] })) } }
      : {}),
  });
}

function requestsOf(requests) {
  return { requests: requests.map((request) => anyPack(registry.getMessage(request.$typeName), request)) };
}

async function readRequest() {
  let bytes = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    bytes = Buffer.concat([bytes, chunk]);
    if (bytes.length >= 4 && bytes.length >= 4 + bytes.readUInt32BE(0)) break;
  }
  return fromBinary(messageOf("ServerCompatRequest"), bytes.subarray(4, 4 + bytes.readUInt32BE(0)));
}

const { messageReceiveLimit } = await readRequest();
const options = {
  routes: (router) => router.service(service, implementation),
  jsonOptions: { registry },
  ...(messageReceiveLimit === 0 ? {} : { readMaxBytes: messageReceiveLimit }),
};
const onError = (error) => process.stderr.write(`fast path: ${error.stack}\n`);
const complete = withRefusedBodies(withPlainGrpcMessages(connectNodeAdapter(options)));
const served = fastPath === "on" ? withFastPath(options, complete, onError) : { handler: complete };
const { address, port } = await listen({ host: "127.0.0.1", port: 0, ...served });
const schema = messageOf("ServerCompatResponse");
const told = toBinary(schema, create(schema, { host: address, port }));
const size = Buffer.alloc(4);
size.writeUInt32BE(told.length);
process.stdout.write(Buffer.concat([size, told]));
