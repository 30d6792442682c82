/** Raw bytes to a port, and what the other side makes of them. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect as connectHttp2 } from "node:http2";
import { connect, createServer, type Socket } from "node:net";

/** How long the other side may say nothing to a request that is over. */
const silenceMs = 15_000;

/** Sends all of it and half-closes; true if there was an answer, or the connection was closed. */
export async function isHeard(port: number, bytes: Buffer): Promise<boolean> {
  const socket = connect({ port, host: "127.0.0.1" });
  // A connection that is reset is closed, too.
  socket.on("error", () => {});
  try {
    await once(socket, "connect");
    const heard = firstOf(socket);
    socket.end(bytes);
    return await heard;
  } finally {
    socket.destroy();
  }
}

function firstOf(socket: Socket): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), silenceMs);
    const heard = () => {
      clearTimeout(timer);
      resolve(true);
    };
    socket.once("data", heard).once("close", heard);
  });
}

/** What a client of HTTP/2 sends for a request, from the preface on. */
export async function http2Bytes(headers: Readonly<Record<string, string>>, body: Buffer): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const server = createServer((socket) => socket.on("data", (chunk) => chunks.push(chunk)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  const session = connectHttp2(`http://127.0.0.1:${typeof address === "object" ? address?.port : 0}`);
  session.on("error", () => {});
  session
    .request(headers)
    .on("error", () => {})
    .end(body);
  // The last bytes are those of the body.
  while (!Buffer.concat(chunks).includes(body)) await new Promise((resolve) => setImmediate(resolve));
  session.destroy();
  server.close();
  return Buffer.concat(chunks);
}

export function http1Bytes(
  path: string,
  headers: Readonly<Record<string, string>>,
  body: Buffer | string = "",
): Buffer {
  const lines = Object.entries({
    host: "127.0.0.1",
    "content-length": `${Buffer.byteLength(body)}`,
    ...headers,
  });
  const head = [
    `${body === "" ? "GET" : "POST"} ${path} HTTP/1.1`,
    ...lines.map(([name, value]) => `${name}: ${value}`),
  ];
  return Buffer.concat([Buffer.from(`${head.join("\r\n")}\r\n\r\n`), Buffer.from(body)]);
}

/** As Connect and gRPC frame a message. */
export function framed(message: Uint8Array): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

/** Resident memory of a process in MiB; 0 where it cannot be told. */
export function residentMib(pid: number): number {
  try {
    const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];
    return Number(kib ?? 0) / 1024;
  } catch {
    return 0;
  }
}
