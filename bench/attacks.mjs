// How long Reserve takes while others attack: each attack goes on in a thread of
// its own, with new connections as fast as old ones are closed.
//
//   npm run build && node bench/attacks.mjs [SECONDS]
import { once } from "node:events";
import { Agent, request } from "node:http";
import { connect } from "node:net";
import { setTimeout as pause } from "node:timers/promises";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import { gzipSync } from "node:zlib";
import { quantile, startBroker } from "./turns/broker.mjs";

const port = 17_460;
const seconds = Number(process.argv[2] ?? 5);
const connections = 20;

const frame = (type, flags, stream, payload = Buffer.alloc(0)) => {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
};
const literal = (name, value) =>
  Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ]);
const preface = Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0)]);
const fields = Buffer.concat([
  literal(":method", "POST"),
  literal(":scheme", "http"),
  literal(":authority", "localhost"),
  literal(":path", "/grpc.health.v1.Health/Check"),
  literal("content-type", "application/json"),
]);
const post = (path, headers) =>
  `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n${headers}`;
const health = "/grpc.health.v1.Health/Check";
const reserve = "/sessionbroker.v1.SessionBroker/Reserve";

let bomb;

/** What is sent first on a connection, and what is sent again and again. */
const attacks = {
  "streams opened and cancelled": () => {
    let stream = -1;
    const one = () => {
      stream += 2;
      return Buffer.concat([frame(1, 4, stream, fields), frame(3, 0, stream, Buffer.from([0, 0, 0, 8]))]);
    };
    return { first: preface, next: () => Buffer.concat(Array.from({ length: 50 }, one)) };
  },
  "a header that never ends": () => {
    const part = Buffer.concat(
      Array.from({ length: 20 }, () => frame(9, 0, 1, literal("x-more", "y".repeat(100)))),
    );
    return { first: Buffer.concat([preface, frame(1, 0, 1, fields)]), next: () => part };
  },
  pings: () => {
    const pings = Buffer.concat(Array.from({ length: 100 }, () => frame(6, 0, 0, Buffer.alloc(8))));
    return { first: preface, next: () => pings };
  },
  "headers byte by byte": () => ({ first: post(health, "X-Slow: "), next: () => "x" }),
  "20,000 headers": () => ({ first: post(health, "x: y\r\n".repeat(20_000)), next: () => "x: y\r\n" }),
  "32 MiB with a wrong token": () => {
    const piece = Buffer.alloc(64 * 1024, " ");
    const head = post(reserve, "Authorization: Bearer wrong\r\nContent-Length: 33554432\r\n\r\n");
    return { first: head, next: () => piece };
  },
  "requests in a row, without a token": () => {
    const requests = post(reserve, "Content-Length: 2\r\n\r\n{}").repeat(50);
    return { first: "", next: () => requests };
  },
  "gzip of 300 MiB, with a token": ({ token }) => {
    bomb ??= gzipSync(Buffer.alloc(300 * 1024 * 1024));
    const head = post(
      reserve,
      `Authorization: Bearer ${token}\r\nContent-Encoding: gzip\r\nContent-Length: ${bomb.length}\r\n\r\n`,
    );
    const all = Buffer.concat([Buffer.from(head), bomb]);
    return { first: "", next: () => all };
  },
  "connections that ask nothing": () => ({ first: "", next: undefined, connections: 9_000 }),
};

if (isMainThread) await measure();
else attack(workerData);

async function measure() {
  const broker = await startBroker(JSON.stringify({ providers: [{ id: "echo", echo: {} }] }), port);
  try {
    await reserveFor(broker, 1);
    console.log("attack | p50 | p99 | answered");
    console.log(row("none", await reserveFor(broker, seconds)));
    for (const name of Object.keys(attacks)) {
      const worker = new Worker(new URL(import.meta.url), { workerData: { name, token: broker.token } });
      await once(worker, "message");
      const times = await reserveFor(broker, seconds);
      await worker.terminate();
      console.log(row(name, times));
      await pause(1_000);
    }
    console.log(row("none, afterwards", await reserveFor(broker, seconds)));
  } finally {
    await broker.stop();
  }
}

function row(name, times) {
  const [p50, p99] = [0.5, 0.99].map((q) => `${quantile(times, q).toFixed(1)} ms`);
  return `${name} | ${p50} | ${p99} | ${times.length}`;
}

/** Milliseconds of each call, one after another on a connection of its own. */
async function reserveFor({ token }, forSeconds) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const times = [];
  const until = performance.now() + forSeconds * 1000;
  const body = JSON.stringify({ key: { scope: "bench", externalId: "chat", provider: "echo" } });
  while (performance.now() < until) {
    const from = performance.now();
    const call = request({
      ...{ host: "127.0.0.1", port, path: reserve, method: "POST", agent },
      headers: {
        authorization: `Bearer ${token}`,
        "content-type": "application/json",
        "content-length": body.length,
      },
    });
    call.end(body);
    const [response] = await once(call, "response");
    response.resume();
    await once(response, "end");
    if (response.statusCode !== 200) throw new Error(`Reserve was answered ${response.statusCode}`);
    times.push(performance.now() - from);
  }
  agent.destroy();
  return times;
}

function attack({ name, token }) {
  import("node:worker_threads").then(({ parentPort }) =>
    setTimeout(() => parentPort.postMessage("attacks"), 1_000),
  );
  const { connections: wanted = connections } = attacks[name]({ token });
  for (let i = 0; i < wanted; i++) setTimeout(() => attackOn(attacks[name]({ token })), i / 20);
  function attackOn({ first, next }) {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    socket.on("close", () => setTimeout(() => attackOn(attacks[name]({ token })), 5));
    socket.resume();
    socket.write(first);
    const isSlow = name === "headers byte by byte";
    const again = () => {
      if (socket.destroyed || next === undefined) return;
      socket.write(next(), () => (isSlow ? setTimeout(again, 100) : setImmediate(again)));
    };
    again();
  }
}
