/** One `codex app-server`: requests with their answers, and what it says about each conversation. */

import { parse } from "node:path";
import type { Failure } from "../ending.js";
import { asRecord, asString, type JsonRecord } from "../json.js";
import { OutputLimitError, type OutputLimits } from "../lines.js";
import { type EndingStep, killMarked } from "../marks.js";
import { type Child, type ChildEnd, settlesWithin, startChild } from "../process.js";
import type { RunAs } from "../run-as.js";
import type { WarmProcess } from "../warm-pool.js";
import { answerToOther, parseQuestion } from "./approvals.js";
import type { Sandbox } from "./args.js";
import { isCommandOf } from "./commands.js";
import { classifyStart } from "./failures.js";
import {
  callLine,
  noteLine,
  parseMessage,
  type RequestId,
  resultLine,
  type ServerMessage,
  unsupportedLine,
} from "./protocol.js";

export interface AppServerOptions {
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  readonly executable: string;
  readonly args: readonly string[];
  /** With the mark. */
  readonly environment: Readonly<Record<string, string>>;
  readonly mark: string;
  /** Used if the agent does not tell its own settings. */
  readonly sandbox: Sandbox;
  /** How long it may take to be ready. */
  readonly startMs: number;
  readonly limits: Pick<OutputLimits, "maxLineBytes">;
  readonly endingSteps: readonly EndingStep[];
  /** Ends it while it starts. */
  readonly closing: AbortSignal;
}

export type ThreadMessage = Extract<ServerMessage, { kind: "notification" | "request" }>;

/** What has a conversation, and is told what is said about it. */
export interface ThreadListener {
  take(message: ThreadMessage, bytes: number): void;
  /** Nothing more comes: the process has ended. */
  gone(end: ServerEnd): void;
}

export interface ServerEnd extends ChildEnd {
  readonly errorOutput: string;
  /** It was ended because of this. */
  readonly fault?: OutputLimitError;
}

/** The agent has refused a request. */
export class RequestError extends Error {
  override readonly name = "RequestError";
}

/** The process is gone, or was told to go. */
export class ServerGoneError extends Error {
  override readonly name = "ServerGoneError";

  constructor(readonly end: ServerEnd) {
    super("the app server has ended");
  }
}

/** The process did not become ready. */
export class StartError extends Error {
  override readonly name = "StartError";

  constructor(
    readonly failure: Failure,
    readonly survivors: readonly number[],
  ) {
    super(failure.message);
  }
}

interface Call {
  resolve(result: JsonRecord): void;
  reject(error: Error): void;
  readonly onResult: (result: JsonRecord) => void;
}

export class AppServer implements WarmProcess {
  /** Resolves when it and all that it started is gone, or cannot be ended. */
  readonly gone: Promise<ServerEnd>;
  /** What its tools may do, as the command line and the agent's own settings have it. */
  sandbox: Sandbox;
  readonly #calls = new Map<RequestId, Call>();
  readonly #threads = new Map<string, ThreadListener>();
  #lastId = 0;
  #end: ServerEnd | undefined;

  private constructor(
    private readonly child: Child,
    private readonly options: AppServerOptions,
  ) {
    this.sandbox = options.sandbox;
    this.gone = this.#read();
  }

  /** Starts one. Throws SpawnError and StartError. */
  static async start(options: AppServerOptions): Promise<AppServer> {
    const child = await startChild({
      executable: options.executable,
      runAs: options.runAs,
      args: options.args,
      // It belongs to no workspace: each conversation has its own.
      cwd: parse(process.cwd()).root,
      environment: options.environment,
      mark: options.mark,
      input: "",
      keepInputOpen: true,
      silenceMs: options.startMs,
      // What a turn may say is counted by the turn.
      limits: { ...options.limits, maxBytes: Number.POSITIVE_INFINITY, maxLines: Number.POSITIVE_INFINITY },
      steps: options.endingSteps,
    });
    const server = new AppServer(child, options);
    const abandon = () => void child.end();
    options.closing.addEventListener("abort", abandon);
    if (options.closing.aborted) abandon();
    const ready = server.#initialize();
    const inTime = await settlesWithin(
      ready.catch(() => {}),
      options.startMs,
    );
    if (!inTime) void child.end();
    try {
      await ready;
      return server;
    } catch {
      await child.end();
      const { exit, errorOutput, survivors } = await server.gone;
      throw new StartError(classifyStart(exit, errorOutput), survivors);
    } finally {
      options.closing.removeEventListener("abort", abandon);
    }
  }

  get exit(): Promise<unknown> {
    return this.child.exit;
  }

  async end(): Promise<ServerEnd> {
    await this.child.end();
    return this.gone;
  }

  /**
   * Ends what the commands of a conversation have left running, and the commands
   * themselves. Returns the pids that are left.
   */
  endCommands(threadId: string): Promise<readonly number[]> {
    const { mark, endingSteps } = this.options;
    const isOurs = isCommandOf(threadId);
    // If the system does not list them, they end with the process.
    return killMarked((each, pid) => each === mark && isOurs(pid), endingSteps).catch(() => []);
  }

  /**
   * Throws RequestError and ServerGoneError.
   *
   * @param onResult called before anything that follows the answer is read
   */
  call(
    method: string,
    params: JsonRecord,
    onResult: (result: JsonRecord) => void = () => {},
  ): Promise<JsonRecord> {
    if (this.#end !== undefined) return Promise.reject(new ServerGoneError(this.#end));
    const id = ++this.#lastId;
    const answered = new Promise<JsonRecord>((resolve, reject) => {
      this.#calls.set(id, { resolve, reject, onResult });
    });
    // A process that takes no more input ends, which answers every call.
    void this.child.write(callLine(id, method, params));
    return answered;
  }

  answer(id: RequestId, result: JsonRecord): void {
    void this.child.write(resultLine(id, result));
  }

  refuse(id: RequestId): void {
    void this.child.write(unsupportedLine(id));
  }

  listen(threadId: string, listener: ThreadListener): void {
    this.#threads.set(threadId, listener);
  }

  forget(threadId: string): void {
    this.#threads.delete(threadId);
  }

  async #initialize(): Promise<void> {
    const clientInfo = { name: "session-broker", title: "session-broker", version: "1" };
    const capabilities = { experimentalApi: true, requestAttestation: false };
    await this.call("initialize", { clientInfo, capabilities });
    void this.child.write(noteLine("initialized"));
    // A conversation keeps the settings that it began with, unless it is given others by name.
    const { config } = await this.call("config/read", { includeLayers: false }).catch(
      (error: unknown): JsonRecord => {
        if (error instanceof RequestError) return {};
        throw error;
      },
    );
    const told = asRecord(config) ?? {};
    this.sandbox = {
      approvalPolicy: told.approval_policy ?? this.sandbox.approvalPolicy,
      sandbox: asString(told.sandbox_mode) ?? this.sandbox.sandbox,
    };
  }

  async #read(): Promise<ServerEnd> {
    let fault: OutputLimitError | undefined;
    try {
      for await (const line of this.child.lines(() => true)) this.#take(line);
    } catch (error) {
      // Whatever it is, nothing more is read, and the process is of no use.
      if (error instanceof OutputLimitError) fault = error;
    }
    const ended = await this.child.end();
    const end = {
      ...ended,
      errorOutput: this.child.errorOutput(),
      ...(fault === undefined ? {} : { fault }),
    };
    this.#end = end;
    for (const { reject } of this.#calls.values()) reject(new ServerGoneError(end));
    this.#calls.clear();
    for (const listener of this.#threads.values()) listener.gone(end);
    return end;
  }

  #take(line: string): void {
    const message = parseMessage(line);
    switch (message?.kind) {
      case "result":
      case "error":
        this.#takeAnswer(message);
        break;
      case "notification":
      case "request":
        this.#takeOfThread(message, line.length);
        break;
    }
  }

  #takeAnswer(message: Extract<ServerMessage, { kind: "result" | "error" }>): void {
    const call = this.#calls.get(message.id);
    this.#calls.delete(message.id);
    if (message.kind === "error") {
      call?.reject(new RequestError(message.message));
    } else {
      call?.onResult(message.result);
      call?.resolve(message.result);
    }
  }

  #takeOfThread(message: ThreadMessage, bytes: number): void {
    const listener = this.#threads.get(asString(message.params.threadId) ?? "");
    if (listener !== undefined) {
      listener.take(message, bytes);
      return;
    }
    if (message.kind === "notification") return;
    // Asked by a conversation that is none of ours, such as one that the agent has begun by itself.
    const answer = parseQuestion(message.method, message.params)?.denied ?? answerToOther(message.method);
    if (answer === undefined) this.refuse(message.id);
    else this.answer(message.id, answer);
  }
}
