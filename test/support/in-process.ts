/** A broker inside the test process, on a real store and a real socket, with a clock that the test moves. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { pino } from "pino";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { type Clock, systemClock } from "../../src/clock.js";
import { loadSettings } from "../../src/config/config.js";
import { type Serving, serveBroker } from "../../src/serving.js";
import type { BrokerClient } from "./broker.js";

const drainMs = 10_000;

/** Stands still until it is moved; wall and monotonic time move together. Timers are the system's. */
export class ManualClock implements Clock {
  readonly after: Clock["after"] = systemClock.after;
  #elapsedMs = 0;
  #jumpedMs = 0;

  constructor(private readonly startMs: number) {}

  readonly now = (): number => this.startMs + this.#elapsedMs + this.#jumpedMs;
  readonly monotonic = (): number => this.#elapsedMs;

  advance(ms: number): void {
    this.#elapsedMs += ms;
  }

  /** Sets the wall clock alone forward, or back. */
  jump(ms: number): void {
    this.#jumpedMs += ms;
  }
}

/** Long timers are the test's too: they wait until it lets them run. */
export class SteppedClock extends ManualClock {
  #timers: { readonly atMs: number; readonly task: () => void }[] = [];

  override readonly after = (ms: number, task: () => void): (() => void) => {
    // The journal and the last words of a broker are not waited for.
    if (ms < 5_000) {
      const timer = setTimeout(task, ms);
      return () => clearTimeout(timer);
    }
    const timer = { atMs: this.monotonic() + ms, task };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  };

  /** Lets time pass, and the timers run whose time has come. */
  pass(ms: number): void {
    this.advance(ms);
    const due = this.#timers.filter(({ atMs }) => atMs <= this.monotonic());
    this.#timers = this.#timers.filter((timer) => !due.includes(timer));
    for (const { task } of due) task();
  }
}

export class InProcessBroker {
  readonly folder = mkdtempSync(join(tmpdir(), "broker-"));
  readonly data = join(this.folder, "data");
  #serving: Serving | undefined;
  #sessions: Http2SessionManager[] = [];
  #client: BrokerClient | undefined;
  /** The timers of a process end with it. */
  #life = { isOver: false };

  private constructor(
    readonly clock: Clock,
    private readonly config: string,
    private readonly metricsListen: string,
  ) {}

  static async start(clock: Clock, config = "", metricsListen = "off"): Promise<InProcessBroker> {
    const broker = new InProcessBroker(clock, config, metricsListen);
    await broker.#start();
    return broker;
  }

  get client(): BrokerClient {
    if (this.#client === undefined) throw new Error("the broker is stopped");
    return this.#client;
  }

  /** May dispatch and read. */
  get token(): string {
    return readFileSync(join(this.data, "token"), "utf8");
  }

  /** Where it shows metrics; undefined: nowhere. */
  get metricsUrl(): string | undefined {
    const port = this.#serving?.metricsAddress?.port;
    return port === undefined ? undefined : `http://127.0.0.1:${port}/metrics`;
  }

  /** A client with another token; good until the broker stops. */
  clientOf(token: string): BrokerClient {
    const baseUrl = `http://127.0.0.1:${this.#serving?.address.port}`;
    const session = new Http2SessionManager(baseUrl);
    this.#sessions.push(session);
    const transport = createConnectTransport({
      baseUrl,
      httpVersion: "2",
      sessionManager: session,
      interceptors: [
        (next) => (request) => {
          request.header.set("authorization", `Bearer ${token}`);
          return next(request);
        },
      ],
    });
    return createClient(SessionBroker, transport);
  }

  /** Stops it in order, or without waiting for running turns, and serves the same store again. */
  async restart(how: "in order" | "in a hurry" = "in order"): Promise<void> {
    await this.#stop(how);
    await this.#start();
  }

  async close(how: "in order" | "in a hurry" = "in order"): Promise<void> {
    await this.#stop(how);
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #start(): Promise<void> {
    const file = join(this.folder, "config.yaml");
    writeFileSync(file, this.config);
    const socket = join(this.folder, "b.sock");
    const life = { isOver: false };
    this.#life = life;
    const { now, monotonic } = this.clock;
    const after: Clock["after"] = (ms, task) =>
      this.clock.after(ms, () => {
        if (!life.isOver) task();
      });
    this.#serving = await serveBroker({
      settings: loadSettings({
        config: file,
        data: this.data,
        listen: "127.0.0.1:0",
        socket,
        metricsListen: this.metricsListen,
      }),
      environment: { PATH: process.env.PATH },
      log: pino({ level: "silent" }),
      clock: { now, monotonic, after },
      onLost: (error) => {
        throw error;
      },
    });
    this.#client = this.clientOf(readFileSync(join(this.data, "admin-token"), "utf8"));
  }

  async #stop(how: "in order" | "in a hurry" = "in order"): Promise<void> {
    for (const session of this.#sessions.splice(0)) session.abort();
    if (how === "in a hurry") this.#serving?.hurry();
    await this.#serving?.stop(drainMs);
    this.#life.isOver = true;
    this.#serving = undefined;
    this.#client = undefined;
  }
}
