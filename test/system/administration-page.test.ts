/** The lines of docs/administration.md, as they stand there, in their order. */
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, expect, it } from "vitest";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

const page = readFileSync(new URL("../../docs/administration.md", import.meta.url), "utf8");
const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));
const tools = fileURLToPath(new URL("../../node_modules/.bin", import.meta.url));

const [commands = [], ...blocks] = [...page.matchAll(/```sh\n(.*?)```/gs)].map(([, block = ""]) =>
  block.trimEnd().split("\n"),
);
const calls = blocks.flat();
const methodOf = (line: string) => /\/sessionbroker\.v1\.SessionBroker\/(\w+)/.exec(line)?.[1];

/** What a line answers, besides that it succeeds. */
const answers: Readonly<Record<string, RegExp>> = {
  Reserve: /OUTCOME_CREATED/,
  Dispatch: /"text": "turn 1: Hello\."/,
  Attach: /"sequence": 2,[\s\S]*"completed"/,
  GetTurn: /"turnId": "turn-1"/,
  ListTurns: /"turnId": "turn-1"/,
  CancelTurn: /ACTION_ALREADY_ENDED/,
  RespondPermission: /"allowed": true/,
  ResolveSelection: /"selected"/,
  GetSession: /"externalId": "by-hand"/,
  ListSessions: /"externalId": "by-hand"/,
  WatchSessions: /CHANGE_HEARTBEAT/,
  Bind: /"telegram:7"/,
  PinSession: /"pinned": true/,
  ResetSession: /"generation": 2/,
  Prune: /^\{/,
  DeleteSession: /transcript was left/,
  AcquireLane: /"granted"/,
  RenewLane: /"renewBefore"/,
  RecordTurn: /TURN_STATE_COMPLETED/,
  GetServerInfo: /"version"/,
  ListUsage: /"provider": "echo"/,
  ExportSessions: /^$/,
  ImportSessions: /"kept": [1-9]/,
  Backup: /^$|PHASE_DONE/,
};

let broker: TestBroker;
let client: BrokerClient;
/** What the words in capitals stand for. */
const words: Record<string, string> = {};
let environment: Record<string, string>;

beforeAll(openBroker);

async function openBroker(): Promise<void> {
  broker = new TestBroker({
    config: JSON.stringify({
      providers: [
        { id: "echo", echo: {} },
        { id: "claude", claude: { executable }, permissions: { ask: true } },
      ],
    }),
  });
  await broker.start();
  client = broker.client();
  // The names that the page has.
  symlinkSync(broker.data, join(broker.folder, ".session-broker"));
  symlinkSync(broker.socket, join(broker.data, "broker.sock"));
  const programs = join(broker.folder, "bin");
  mkdirSync(programs);
  const program = join(programs, "session-broker");
  writeFileSync(program, `#!/bin/sh\nexec '${process.execPath}' '${main}' "$@"\n`);
  chmodSync(program, 0o755);
  environment = { PATH: `${programs}:${tools}:${process.env.PATH}`, HOME: broker.folder };
}

afterAll(() => broker?.close());

function start(line: string) {
  const here = line
    .replaceAll("127.0.0.1:7410", `127.0.0.1:${broker.port}`)
    .replace(/\b[A-Z]+_(?:ID|DIGEST)\b|\bFENCE\b/g, (word) => words[word] ?? word);
  return execa("bash", ["-c", `exec ${here}`], {
    cwd: broker.folder,
    env: environment,
    extendEnv: false,
    reject: false,
    // A group of its own, so that Ctrl-C reaches what it has started.
    detached: true,
  });
}

/** Runs it until it has said something; answers that and how to end it. */
async function startStream(line: string, wanted: RegExp) {
  const child = start(line);
  let said = "";
  child.stdout?.on("data", (chunk) => {
    said += String(chunk);
  });
  await expect.poll(() => said, { timeout: 20_000 }).toMatch(wanted);
  return { child, said };
}

it("has a line for each method of the service, and no other", () => {
  const methods = [...new Set(calls.flatMap((line) => methodOf(line) ?? []))];
  expect(methods.sort()).toEqual(SessionBroker.methods.map(({ name }) => name).sort());
  expect(Object.keys(answers).sort()).toEqual(methods);
});

it("has lines that can be pasted", () => {
  for (const line of calls) expect(line).toMatch(/^buf curl /);
  for (const line of commands) expect(line).toMatch(/^session-broker /);
});

const onSocket = "--unix-socket .session-broker/broker.sock";

it.each([
  ["as they stand", (line: string) => line],
  ["over gRPC", (line: string) => line.replace("-H ", "--protocol grpc -H ")],
  [
    "over gRPC-Web on the unix socket",
    (line: string) =>
      line
        .replace("-H ", `--protocol grpcweb ${onSocket} -H `)
        .replace("http://127.0.0.1:7410/", "http://localhost/"),
  ],
])("has lines that do what they say, %s", { timeout: 120_000 }, async (_, changed) => {
  // Each begins anew: the lines are one story.
  await broker.close();
  await openBroker();
  const target = {
    case: "key" as const,
    value: { scope: "default", externalId: "permission", provider: "claude" },
  };
  const asking = dispatchTurn(client, '[[ask Bash {"command":"make"}]]', { target, turnId: "turn-2" });
  const { permissionId, inputDigest } = await asking.event("permissionRequest");
  Object.assign(words, { PERMISSION_ID: permissionId, INPUT_DIGEST: inputDigest });
  const open: (() => Promise<void>)[] = [];
  for (const asWritten of calls) {
    const line = /--protocol|--list-methods|Health/.test(asWritten) ? asWritten : changed(asWritten);
    const method = methodOf(line) ?? "";
    const wanted = answers[method] ?? /./;
    if (method === "WatchSessions") {
      const { child } = await startStream(line, wanted);
      process.kill(-(child.pid ?? Number.NaN), "SIGINT");
      await child;
    } else if (method === "AcquireLane") {
      const { child, said } = await startStream(line, wanted);
      words.FENCE = /"fence": "(\d+)"/.exec(said)?.[1] ?? "";
      open.push(async () => expect((await child).exitCode).toBe(0));
    } else {
      const { stdout, stderr, exitCode } = await start(line);
      expect([line, exitCode, stderr]).toEqual([line, 0, ""]);
      expect(stdout).toMatch(wanted);
      if (method === "ResolveSelection") {
        const { session } = JSON.parse(stdout).selected;
        Object.assign(words, { SESSION_ID: session.sessionId, NATIVE_ID: session.nativeId ?? "" });
      }
    }
  }
  for (const end of open) await end();
  expect((await asking.ended).at(-1)?.event.case).toBe("completed");
});

it("has commands that do what they say", { timeout: 120_000 }, async () => {
  const key = { scope: "default", externalId: "by-hand", provider: "echo" };
  const { session } = await client.reserve({ key });
  words.SESSION_ID = session?.sessionId ?? "";
  const input = [{ part: { case: "text" as const, value: "Hello." } }];
  const turn = client.dispatch({ target: { case: "key", value: key }, turnId: "turn-4", input });
  for await (const _ of turn);
  for (const line of commands) {
    // The turn of the page went with its session.
    const { exitCode, stdout, stderr } = await start(line.replace("turn-1", "turn-4"));
    expect([line, exitCode]).toEqual([line, 0]);
    expect(stdout).not.toBe("");
    if (!line.includes("follow")) expect(stderr).toBe("");
  }
});
