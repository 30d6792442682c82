/** examples/gateway-python: gateways that run the agent themselves, one at a time in a chat. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { Interrupted_Reason, TurnState } from "../../gen/sessionbroker/v1/turn_pb.js";
import { AgentNotes, type AgentRun } from "../crash/agent-notes.js";
import { reasonOf } from "../support/answers.js";
import { TestBroker } from "../support/broker.js";
import { available } from "./programs.js";
import { generateStubs, preparePython } from "./python.js";

const program = fileURLToPath(new URL("../../examples/gateway-python/gateway.py", import.meta.url));
const command = `${process.execPath} ${fileURLToPath(new URL("../fixtures/noting-command.mjs", import.meta.url))}`;
const python = await preparePython("gateway, a Python");
const waiting = { timeout: 40_000, interval: 50 };

interface Report {
  readonly turn: string;
  readonly state: string;
  readonly text: string;
  readonly previous_holder_lost?: boolean;
}

let stubs: string;

/** A broker, and the gateways that use it. */
class Scene {
  readonly notes: AgentNotes;
  readonly #gateways: ChildProcess[] = [];

  private constructor(readonly broker: TestBroker) {
    this.notes = new AgentNotes(join(broker.folder, "notes"));
  }

  static async open(): Promise<Scene> {
    return new Scene(await TestBroker.start());
  }

  /** A gateway in the chat that is given messages, each an id and a text, and told no more are to come. */
  gateway(...messages: readonly string[]) {
    const { broker, notes } = this;
    const place = ["--broker", `127.0.0.1:${broker.port}`, "--token-file", join(broker.data, "token")];
    const child = spawn(available(python), [program, ...place, "--chat", "chat", "--agent", command], {
      env: { PATH: process.env.PATH, PYTHONPATH: stubs, PYTHONUTF8: "1", NOTES: notes.file },
      stdio: ["pipe", "pipe", "inherit"],
    });
    this.#gateways.push(child);
    child.stdin.end(messages.map((message) => `${message}\n`).join(""));
    const reports: Report[] = [];
    createInterface(child.stdout).on("line", (line) => reports.push(JSON.parse(line)));
    const ended = once(child, "close");
    return {
      reports,
      kill: () => child.kill("SIGKILL"),
      /** What became of its messages. */
      async done(): Promise<Report[]> {
        expect((await ended)[0]).toBe(0);
        return reports;
      },
    };
  }

  runsOf(token: string): AgentRun[] {
    return this.notes.runs().filter(({ tokens }) => tokens.includes(token));
  }

  /** The process of the agent that is given a message. */
  async agentOf(token: string): Promise<number> {
    await expect.poll(() => this.runsOf(token).length, waiting).toBe(1);
    return this.runsOf(token)[0]?.pid ?? 0;
  }

  async close(): Promise<void> {
    for (const gateway of this.#gateways) gateway.kill("SIGKILL");
    await this.broker.close();
  }
}

const message = (id: string, ms: number) => `${id} token=${id} ms=${ms}`;

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

describe.skipIf("missing" in python)("a gateway in Python", () => {
  let scene: Scene;
  const open = async () => {
    scene = await Scene.open();
    return { scene, client: scene.broker.client() };
  };

  beforeAll(async () => {
    stubs = await generateStubs(available(python));
  });
  afterAll(() => rmSync(stubs, { recursive: true, force: true }));
  afterEach(() => scene.close());

  it("runs one agent at a time with another in the same chat, and records all turns", async () => {
    const { client } = await open();
    const messages = (name: string) => Array.from({ length: 5 }, (_, i) => message(`${name}-${i}`, 20 * i));
    const gateways = [scene.gateway(...messages("a")), scene.gateway(...messages("b"))];
    const reports = (await Promise.all(gateways.map((gateway) => gateway.done()))).flat();
    expect(reports).toHaveLength(10);
    for (const { turn, state, text } of reports) {
      expect([state, text]).toEqual(["COMPLETED", `done ${turn}`]);
      expect(scene.runsOf(turn)).toEqual([expect.objectContaining({ ended: true })]);
    }
    expect(scene.notes.encounters()).toEqual([]);
    const key = { scope: "chat", externalId: "chat", provider: "claude" };
    const { session } = await client.getSession({ selector: { case: "key", value: key } });
    expect(session).toMatchObject({ turnCount: 10, usage: { inputTokens: 30n, outputTokens: 50n } });
    // All went into the conversation that the first one began.
    const { turns } = await client.listTurns({ key });
    expect(new Set(turns.map(({ nativeId }) => nativeId))).toEqual(new Set([session?.nativeId]));
  });

  it("does not run a message again that it is given again", async () => {
    await open();
    const first = await scene.gateway(message("once", 0)).done();
    expect(await scene.gateway(message("once", 0)).done()).toMatchObject([
      { turn: "once", state: "COMPLETED", text: first[0]?.text },
    ]);
    expect(scene.runsOf("once")).toHaveLength(1);
  });

  it("ends its agent when the turn is cancelled", async () => {
    const { client } = await open();
    const gateway = scene.gateway(message("long", 3_600_000), message("next", 0));
    const pid = await scene.agentOf("long");
    await client.cancelTurn({ turnId: "long" });
    expect(await gateway.done()).toMatchObject([{ state: "CANCELLED" }, { state: "COMPLETED" }]);
    expect(isAlive(pid)).toBe(false);
  });

  it("asks again for a lane that a restart of the broker took from it while it waited", async () => {
    const { client } = await open();
    const holder = scene.gateway(message("first", 3_000));
    await scene.agentOf("first");
    const waiter = scene.gateway(message("second", 0));
    const waits = () => reasonOf(client.getTurn({ turnId: "second" }));
    await expect.poll(waits, waiting).toBe("none");
    await scene.broker.restart();
    expect(await holder.done()).toMatchObject([{ turn: "first", state: "COMPLETED" }]);
    expect(await waiter.done()).toMatchObject([{ turn: "second.1", state: "COMPLETED" }]);
    expect(scene.notes.encounters()).toEqual([]);
  });

  it("that is killed loses the lane to another, 20 s after its last renewal", async () => {
    const { client } = await open();
    const doomed = scene.gateway(message("doomed", 3_600_000));
    const pid = await scene.agentOf("doomed");
    const heir = scene.gateway(message("heir", 0));
    doomed.kill();
    // It is on its gateway's leash: nothing that was started for the turn lives on.
    await expect.poll(() => isAlive(pid), waiting).toBe(false);
    expect(await heir.done()).toMatchObject([{ state: "COMPLETED", previous_holder_lost: true }]);
    expect(scene.notes.encounters()).toEqual([]);
    const turnOf = async (turnId: string) => (await client.getTurn({ turnId })).turn;
    const [lost, next] = [await turnOf("doomed"), await turnOf("heir")];
    expect(lost).toMatchObject({
      state: TurnState.INTERRUPTED,
      ending: { event: { value: { reason: Interrupted_Reason.HOLDER_LOST } } },
    });
    const at = (time: Parameters<typeof timestampMs>[0] | undefined) => (time ? timestampMs(time) : 0);
    // The last renewal came after the grant.
    expect(at(next?.startedAt) - at(lost?.startedAt)).toBeGreaterThanOrEqual(20_000);
  }, 90_000);

  it("ends its agent when nobody answers its renewals", async () => {
    await open();
    scene.gateway(message("alone", 3_600_000));
    const pid = await scene.agentOf("alone");
    const began = performance.now();
    await scene.broker.kill();
    await expect.poll(() => isAlive(pid), waiting).toBe(false);
    // Before the lane may be another's.
    expect(performance.now() - began).toBeLessThan(20_000);
  }, 90_000);
});
