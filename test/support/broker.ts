/** A real broker process in a folder of its own, for system tests. */

import { type ChildProcess, spawn } from "node:child_process";
import { randomInt } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Client, createClient, type Transport } from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  createGrpcWebTransport,
} from "@connectrpc/connect-node";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";

const builtMain = new URL("../../dist/src/main.js", import.meta.url).pathname;

export type BrokerClient = Client<typeof SessionBroker>;
export type Protocol = "connect" | "connect-h2" | "grpc" | "grpc-web";

export interface BrokerOptions {
  /** Settings as YAML. */
  readonly config?: string;
  readonly environment?: Readonly<Record<string, string>>;
  /** Shows metrics, at `metricsUrl`. Default: nowhere. */
  readonly metrics?: boolean;
  /** Words before the program, such as those of `unshare`. */
  readonly wrapper?: readonly string[];
  /** Default: the one of this build. */
  readonly main?: string;
}

export class TestBroker {
  readonly folder = mkdtempSync(join(tmpdir(), "broker-"));
  readonly data = join(this.folder, "data");
  readonly socket = join(this.folder, "b.sock");
  readonly output: string[] = [];
  port = 0;
  #child: ChildProcess | undefined;
  /** By base URL. */
  readonly #adapters = new Map<string, ChildProcess>();

  constructor(private readonly options: BrokerOptions = {}) {}

  static async start(options: BrokerOptions = {}): Promise<TestBroker> {
    const broker = new TestBroker(options);
    await broker.start();
    return broker;
  }

  get #main(): string {
    return this.options.main ?? builtMain;
  }

  get configFile(): string {
    return join(this.folder, "config.yaml");
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  get metricsUrl(): string {
    // A port that the system chooses is another one after each start.
    const url = [...this.output.join("").matchAll(/; metrics at (http:\S+)/g)].at(-1)?.[1];
    if (url === undefined) throw new Error("the broker shows no metrics");
    return url;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get token(): string {
    return readFileSync(join(this.data, "token"), "utf8");
  }

  get adminToken(): string {
    return readFileSync(join(this.data, "admin-token"), "utf8");
  }

  /** Starts the process, on the same store and port each time; `words` are more of its command line. */
  async start(words: readonly string[] = []): Promise<void> {
    if (this.port === 0) this.port = await freePort();
    const args = ["--data", this.data, "--listen", `127.0.0.1:${this.port}`, "--socket", this.socket];
    args.push("--metrics-listen", this.options.metrics === true ? "127.0.0.1:0" : "off");
    if (this.options.config !== undefined) {
      writeFileSync(this.configFile, this.options.config);
      args.push("--config", this.configFile);
    }
    const [program = process.execPath, ...rest] = [
      ...(this.options.wrapper ?? []),
      process.execPath,
      this.#main,
      "serve",
      ...args,
      ...words,
    ];
    this.#child = this.#spawn(program, rest);
    await this.#ready(this.#child, "session-broker listens");
  }

  /** Starts one more OpenAI-compatible adapter in front of it, or one where another was; answers its base URL. */
  async startAdapter(where?: string): Promise<string> {
    const port = where === undefined ? await freePort() : Number(new URL(where).port);
    const args = [
      this.#main,
      "openai",
      "--openai-listen",
      `127.0.0.1:${port}`,
      "--broker",
      `unix:${this.socket}`,
    ];
    if (this.options.config !== undefined) args.push("--config", this.configFile);
    const url = `http://127.0.0.1:${port}`;
    const adapter = this.#spawn(process.execPath, args);
    this.#adapters.set(url, adapter);
    await this.#ready(adapter, "session-broker openai listens");
    return url;
  }

  adapterPid(url: string): number {
    return this.#adapters.get(url)?.pid ?? 0;
  }

  async killAdapter(url: string): Promise<void> {
    await end(this.#adapters.get(url), "SIGKILL");
    this.#adapters.delete(url);
  }

  async kill(signal: NodeJS.Signals = "SIGKILL"): Promise<number | null> {
    const code = await end(this.#child, signal);
    this.#child = undefined;
    return code;
  }

  /** Resolves with the exit code when the process ends by itself. */
  async ended(): Promise<number | null> {
    const child = this.#child;
    if (child === undefined) return null;
    if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    return child.exitCode;
  }

  async restart(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    await this.kill(signal);
    await this.start();
  }

  transport(protocol: Protocol = "connect-h2", token = this.adminToken): Transport {
    const options = {
      baseUrl: this.url,
      interceptors: [
        (next) => (request) => {
          if (token !== "") request.header.set("authorization", `Bearer ${token}`);
          return next(request);
        },
      ],
    } satisfies Pick<Parameters<typeof createGrpcTransport>[0], "baseUrl" | "interceptors">;
    switch (protocol) {
      case "connect":
        return createConnectTransport({ ...options, httpVersion: "1.1" });
      case "connect-h2":
        return createConnectTransport({ ...options, httpVersion: "2" });
      case "grpc":
        return createGrpcTransport(options);
      case "grpc-web":
        return createGrpcWebTransport({ ...options, httpVersion: "1.1" });
    }
  }

  client(protocol?: Protocol, token?: string): BrokerClient {
    return createClient(SessionBroker, this.transport(protocol, token));
  }

  async close(): Promise<void> {
    for (const adapter of this.#adapters.values()) await end(adapter, "SIGKILL");
    await end(this.#child, "SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  #spawn(program: string, words: readonly string[]): ChildProcess {
    const environment = { PATH: process.env.PATH, HOME: this.folder, ...this.options.environment };
    const child = spawn(program, words, {
      env: environment,
      cwd: this.folder,
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout?.on("data", (chunk) => this.output.push(String(chunk)));
    child.stderr?.on("data", (chunk) => this.output.push(String(chunk)));
    return child;
  }

  async #ready(child: ChildProcess, line: string): Promise<void> {
    const before = this.output.length;
    const said = () => this.output.slice(before).join("");
    const ended = once(child, "exit").then(([code, signal]) => {
      throw new Error(`the process ended with ${code ?? signal} before it listened:\n${said()}`);
    });
    const listens = (async () => {
      while (!said().includes(line)) await once(child.stdout ?? child, "data");
    })();
    // Whichever comes first; the other one no longer matters.
    ended.catch(() => {});
    await Promise.race([listens, ended]);
  }
}

export async function freePort(): Promise<number> {
  for (;;) {
    // The system gives out higher ones by itself, so that one would not stay free.
    const port = 10_000 + randomInt(20_000);
    const server = createServer().listen(port, "127.0.0.1");
    const isFree = await new Promise<boolean>((resolve) => {
      server.once("listening", () => resolve(true)).once("error", () => resolve(false));
    });
    if (!isFree) continue;
    server.close();
    await once(server, "close");
    return port;
  }
}

async function end(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<number | null> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null)
    return child?.exitCode ?? null;
  const ended = once(child, "exit");
  child.kill(signal);
  await ended;
  return child.exitCode;
}
