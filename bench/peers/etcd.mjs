// One node of etcd, asked by @grpc/grpc-js: a transaction that creates the key
// if it was never created. etcd answers when its log is on disk.
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { credentials, loadPackageDefinition } from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";
import { findProgram } from "../load.mjs";
import { freePort, startServer } from "./program.mjs";

export const name = "etcd, one node";
/** Of one transaction, unless it is told otherwise. */
const mostPuts = 128;

/** Undefined, with a message, where it is not installed. */
export async function start(folder) {
  const program = findProgram("etcd");
  if (program === undefined) return console.error("etcd is not installed (Debian: etcd-server): skipped");
  const data = join(folder, "etcd");
  mkdirSync(data, { mode: 0o700 });
  const [port, peerPort] = [await freePort(), await freePort()];
  const [url, peerUrl] = [port, peerPort].map((each) => `http://127.0.0.1:${each}`);
  const options = {
    "--data-dir": data,
    "--listen-client-urls": url,
    "--advertise-client-urls": url,
    "--listen-peer-urls": peerUrl,
    "--initial-advertise-peer-urls": peerUrl,
    "--initial-cluster": `default=${peerUrl}`,
    "--log-level": "error",
  };
  const server = await startServer(program, Object.entries(options).flat(), port, {
    stdio: ["ignore", "ignore", "ignore"],
  });
  const proto = new URL("etcd.proto", import.meta.url).pathname;
  const { KV } = loadPackageDefinition(loadSync(proto)).etcdserverpb;
  const client = new KV(`127.0.0.1:${port}`, credentials.createInsecure());
  const put = ([key, value]) => ({ requestPut: { key: Buffer.from(key), value: Buffer.from(value) } });
  /** Whether the comparisons held. */
  const transact = (compare, success) =>
    new Promise((resolve, reject) => {
      client.Txn({ compare, success }, (error, answer) =>
        error === null ? resolve(answer.succeeded) : reject(error),
      );
    });
  return {
    name,
    pid: server.pid,
    create: (key, value) =>
      transact(
        [{ result: "EQUAL", target: "CREATE", key: Buffer.from(key), createRevision: 0 }],
        [put([key, value])],
      ),
    async fill(entries) {
      for (let from = 0; from < entries.length; from += mostPuts)
        await transact([], entries.slice(from, from + mostPuts).map(put));
    },
    async stop() {
      client.close();
      await server.stop();
    },
  };
}
