// Server streams of small deltas: our doors and plain connect-node before the
// same generator, and then turns of the broker itself.
import { once } from "node:events";
import { Agent, request } from "node:http";
import { contest } from "../contest.mjs";
import { h2load } from "../load.mjs";
import { memoryOf } from "../measure.mjs";
import { streamed } from "./requests.mjs";

const deltas = 2_000;
const words = 50;
/** Of an event: its envelope and its text. */
const leastBytes = 10;

export async function streams(context) {
  const { servers, report, plan } = context;
  const [connect, own] = [await servers.connectNode(), await servers.ownDoors()];
  const broker = await servers.broker();
  for (const connections of plan.streams) {
    const plural = connections === 1 ? "1 stream" : `${connections} streams`;
    const overHttp = (name, { pid, http, token }) => {
      const load = streamed({ url: `http://127.0.0.1:${http}`, token }, "Attach", () => ({
        turnId: `${deltas}`,
      }));
      return { name, pid, load: (plan) => load(plan).then(asEvents(deltas)) };
    };
    const [plainHttp, ownHttp] = await contest(
      context,
      "deltas, Connect with JSON",
      [overHttp("plain connect-node", connect), overHttp("session-broker's doors", own)],
      connections,
    );
    report.bar(`deltas over HTTP/1.1, ${plural}, of plain connect-node`, ownHttp / plainHttp, 3);
    const overGrpc = (name, { pid, http2, token }) => {
      const url = `http://127.0.0.1:${http2}/sessionbroker.v1.SessionBroker/Attach`;
      // turn_id, field 1.
      const text = Buffer.from(`${deltas}`);
      const body = Buffer.concat([Buffer.from([0x0a, text.length]), text]);
      return { name, pid, load: (plan) => h2load({ url, token, body }, plan).then(asEvents(deltas)) };
    };
    const [plainGrpc, ownGrpc] = await contest(
      context,
      "deltas, gRPC",
      [overGrpc("plain connect-node", connect), overGrpc("session-broker's doors", own)],
      connections,
    );
    report.bar(`deltas over gRPC, ${plural}, of plain connect-node`, ownGrpc / plainGrpc, 3);
    const dispatch = streamed(
      broker,
      "Dispatch",
      (run) => ({
        key: { scope: "bench", externalId: `turn-${run}-%d`, provider: "echo" },
        input: [{ text: Array.from({ length: words }, () => "word").join(" ") }],
      }),
      "count",
    );
    await contest(
      context,
      `events of turns of echo, ${words} words each, journaled`,
      [
        {
          name: "session-broker, Dispatch",
          pid: broker.pid,
          load: (plan) => dispatch(plan).then(asEvents(words)),
        },
      ],
      connections,
    );
  }
  report.figure(
    `memory for each open stream of ${plan.open} turns`,
    `${await memoryOfStreams(broker, plan.open)} KiB`,
  );
}

/** Of so many events in each stream. */
const asEvents = (each) => (result) => {
  const requests = result.requests * each;
  if (result.bytes < requests * leastBytes) throw new Error("the streams ended before their events");
  return { ...result, requests };
};

/** Of turns that have said a word and wait. */
async function memoryOfStreams({ url, token, client, pid }, count) {
  const agent = new Agent({ maxSockets: count });
  const before = memoryOf(pid).own;
  const open = Array.from({ length: count }, async (_, i) => {
    const message = JSON.stringify({
      key: { scope: "bench", externalId: `open-${i}`, provider: "slow" },
      input: [{ text: Array.from({ length: 60 }, () => "word").join(" ") }],
      turnId: `open-${i}`,
    });
    const envelope = Buffer.alloc(5);
    envelope.writeUInt32BE(Buffer.byteLength(message), 1);
    const headers = { authorization: `Bearer ${token}`, "content-type": "application/connect+json" };
    const call = request(`${url}/sessionbroker.v1.SessionBroker/Dispatch`, {
      method: "POST",
      headers,
      agent,
    });
    call.end(Buffer.concat([envelope, Buffer.from(message)]));
    const [response] = await once(call, "response");
    for await (const chunk of response) if (`${chunk}`.includes("textDelta")) return response;
    throw new Error("a turn ended before its first text");
  });
  const responses = await Promise.all(open);
  const more = memoryOf(pid).own - before;
  for (const response of responses) response.destroy();
  for (let i = 0; i < count; i++) await client.cancelTurn({ turnId: `open-${i}` });
  agent.destroy();
  return Math.max(0, Math.round(more / count / 1024));
}
