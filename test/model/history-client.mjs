/**
 * A client process of the linearizability test. Told where the broker is, and
 * then a list of scripts, one for each history, it runs the scripts at the same
 * time and answers what it called, when, and what it was told.
 */
import { setImmediate, setTimeout } from "node:timers/promises";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { ErrorInfoSchema } from "../../dist/gen/google/rpc/error_details_pb.js";
import { SessionBroker } from "../../dist/gen/sessionbroker/v1/session_broker_pb.js";
import { Outcome, RotationReason } from "../../dist/gen/sessionbroker/v1/session_pb.js";

const lostCodes = new Set([Code.Unavailable, Code.Canceled, Code.Aborted, Code.Internal, Code.Unknown]);
const betweenTriesMs = 20;

let client;

process.on("message", async (message) => {
  if (message.kind === "connect") {
    client = createClient(SessionBroker, transportTo(message));
    process.send({ kind: "connected" });
  } else {
    const histories = await Promise.all(message.scripts.map(runScript));
    process.send({ kind: "done", histories });
  }
});
process.on("disconnect", () => process.exit());

function transportTo({ baseUrl, token }) {
  return createConnectTransport({
    baseUrl,
    httpVersion: "2",
    interceptors: [
      (next) => (request) => {
        request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ],
  });
}

/** One operation after the other; each expects what this script saw last of its key. */
async function runScript({ keys, steps }) {
  const seen = keys.map(() => ({ generation: 1, nativeId: "" }));
  const operations = [];
  for (const step of steps) {
    for (let turn = 0; turn < step.wait; turn++) await setImmediate();
    const input = inputOf(step, seen[step.key]);
    const called = now();
    const output = await perform(input, keys[input.key]).catch(refusalOf);
    const returned = now();
    operations.push({ input, called, ...(output === undefined ? {} : { output, returned }) });
    if (output === undefined) await reachable();
    note(seen[step.key], output);
    process.send({ kind: "progress" });
  }
  return operations;
}

function inputOf(step, { generation, nativeId: expectedNativeId }) {
  const { method, key, nativeId, stale, sessionId, alias, once } = step;
  const expectedGeneration = generation + (stale ? 1 : 0);
  switch (method) {
    case "reserve":
    case "resolve":
      return { method, key };
    case "claim":
      return { method: "reserve", key, sessionId, expectedGeneration };
    case "name":
      return { method: "reserve", key, alias };
    case "once":
      return { method: "reserve", key, once };
    case "find":
      return { method, key, alias };
    case "bind":
      return { method, key, nativeId, expectedGeneration, expectedNativeId };
    default:
      return { method, key, expectedGeneration };
  }
}

async function perform(input, key) {
  const selector = { case: "key", value: key };
  const { expectedGeneration } = input;
  switch (input.method) {
    case "reserve": {
      const { sessionId = "", alias, once: idempotencyKey = "" } = input;
      const aliases = alias === undefined ? [] : [alias];
      const { session, outcome, rotationReason } = await client.reserve({
        key,
        sessionId,
        aliases,
        idempotencyKey,
        ...(expectedGeneration === undefined ? {} : { expectedGeneration }),
      });
      return { ...shown(session), outcome: Outcome[outcome], reason: RotationReason[rotationReason] };
    }
    case "resolve":
    case "find": {
      const by = input.method === "find" ? { case: "alias", value: input.alias } : selector;
      const { selection } = await client.resolveSelection({ selector: by });
      return selection.case === "selected" ? shown(selection.value.session) : { kind: "none" };
    }
    case "reset":
      return shown((await client.resetSession({ selector, expectedGeneration })).session);
    case "delete":
      return shown((await client.deleteSession({ selector, expectedGeneration })).session);
    case "bind": {
      const { nativeId, expectedNativeId } = input;
      return shown((await client.bind({ selector, nativeId, expectedGeneration, expectedNativeId })).session);
    }
  }
}

function shown({ sessionId, generation, nativeId, previousSessionId: previous }) {
  return { kind: "session", sessionId, generation, nativeId, previous };
}

/** A refusal is an answer; undefined if nobody knows what became of the call. */
function refusalOf(failure) {
  const error = ConnectError.from(failure);
  const [info] = error.findDetails(ErrorInfoSchema);
  if (info !== undefined && info.reason !== "INTERNAL") {
    const current = info.metadata.generation ?? info.metadata.native_id;
    return { kind: "refused", reason: info.reason, ...(current === undefined ? {} : { current }) };
  }
  if (lostCodes.has(error.code)) return undefined;
  throw error;
}

function note(seen, output) {
  if (output?.kind === "session")
    Object.assign(seen, { generation: output.generation, nativeId: output.nativeId });
  if (output?.kind === "refused" && output.reason === "STALE_GENERATION")
    seen.generation = Number(output.current);
  if (output?.kind === "refused" && output.reason === "NATIVE_ID_MISMATCH") seen.nativeId = output.current;
}

async function reachable() {
  while (
    !(await client.getServerInfo({}).then(
      () => true,
      () => false,
    ))
  )
    await setTimeout(betweenTriesMs);
}

/** Of the system's monotonic clock, which all processes share. */
function now() {
  return Number(process.hrtime.bigint() / 1000n);
}
