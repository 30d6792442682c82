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

  constructor(private readonly startMs: number) {}

  readonly now = (): number => this.startMs + this.#elapsedMs;
  readonly monotonic = (): number => this.#elapsedMs;

  advance(ms: number): void {
    this.#elapsedMs += ms;
  }
}

export class InProcessBroker {
  readonly folder = mkdtempSync(join(tmpdir(), "broker-"));
  readonly data = join(this.folder, "data");
  #serving: Serving | undefined;
  #session: Http2SessionManager | undefined;
  #client: BrokerClient | undefined;

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

  /** Where it shows metrics; undefined: nowhere. */
  get metricsUrl(): string | undefined {
    const port = this.#serving?.metricsAddress?.port;
    return port === undefined ? undefined : `http://127.0.0.1:${port}/metrics`;
  }

  /** As the holder of another token. */
  clientOf(token: string): BrokerClient {
    if (this.#session === undefined) throw new Error("the broker is stopped");
    const transport = createConnectTransport({
      baseUrl: this.#session.authority,
      httpVersion: "2",
      sessionManager: this.#session,
      interceptors: [
        (next) => (request) => {
          request.header.set("authorization", `Bearer ${token}`);
          return next(request);
        },
      ],
    });
    return createClient(SessionBroker, transport);
  }

  /** Stops it in order, and serves the same store again. */
  async restart(): Promise<void> {
    await this.#stop();
    await this.#start();
  }

  async close(): Promise<void> {
    await this.#stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async #start(): Promise<void> {
    const file = join(this.folder, "config.yaml");
    writeFileSync(file, this.config);
    const socket = join(this.folder, "b.sock");
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
      clock: this.clock,
      onLost: (error) => {
        throw error;
      },
    });
    this.#session = new Http2SessionManager(`http://127.0.0.1:${this.#serving.address.port}`);
    this.#client = this.clientOf(readFileSync(join(this.data, "admin-token"), "utf8"));
  }

  async #stop(): Promise<void> {
    this.#session?.abort();
    await this.#serving?.stop(drainMs);
    this.#serving = undefined;
    this.#client = undefined;
  }
}
