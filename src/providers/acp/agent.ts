/**
 * One process that speaks the protocol, and the one conversation in it.
 *
 *     (started) ──open──▶ idle ──prompt──▶ busy ──the answer──▶ idle
 *        any ──exit | end──▶ (gone)
 *       idle ──says what belongs to no prompt──▶ unfit, ended
 *
 * An update does not say which prompt it is about, so what comes while none
 * runs is about none (ruling 25), and a process that says it is replaced.
 */
import type { ClientContext, PromptRequest } from "@agentclientprotocol/sdk";
import { asRecord, asString, type JsonRecord } from "../json.js";
import { type Child, type ChildEnd, settlesWithin } from "../process.js";
import type { WarmProcess } from "../warm-pool.js";
import { connect } from "./connection.js";
import { Inbox } from "./inbox.js";
import { replayIsOver } from "./replay.js";

/** Updates that are part of a prompt; the others tell of the conversation and may come at any time. */
const promptUpdates: readonly string[] = [
  "user_message_chunk",
  "agent_message_chunk",
  "agent_thought_chunk",
  "tool_call",
  "tool_call_update",
];

/** Waited for once in a process, by agents that answer only what they know. */
const longestPingMs = 5_000;

export class AcpAgent implements WarmProcess {
  /** Of the conversation that is open in it. */
  sessionId: string | undefined;
  /** What it said about itself. */
  capabilities: JsonRecord = {};
  /** What it answered when the conversation was opened. */
  opened: JsonRecord = {};
  /** The model that it was told to use. */
  model: string | undefined;
  /** Why its output ended early, if it was ended for it. */
  fault: unknown;
  #unfit = false;
  #inbox: Inbox | undefined;
  #prompted = false;
  /** Requests that wait for an answer. */
  #waiting = 0;
  /** Each one makes a question void that still waits. */
  readonly #questions = new Set<() => void>();
  #updates = 0;
  /** It does not answer what it does not know, against JSON-RPC. */
  #ignoresPings = false;
  #connection: ClientContext | undefined;

  private constructor(readonly child: Child) {}

  static async over(child: Child): Promise<AcpAgent> {
    const agent = new AcpAgent(child);
    agent.#connection = await connect(child, () => agent.#waiting === 0 || agent.#questions.size > 0, {
      onUpdate: (params) => agent.#take(params),
      onPermission: (params, withdrawn) => agent.#ask(params, withdrawn),
      onPromptAnswered: () => agent.#closeInbox(),
      onStray: () => agent.#replace(),
      room: async () => agent.#inbox?.room(),
      onEnd: (error) => {
        agent.fault = error;
        agent.#unfit = true;
        agent.#closeInbox();
      },
    });
    return agent;
  }

  get exit(): Promise<unknown> {
    return this.child.exit;
  }

  /** Whether it may take another prompt. */
  get isFit(): boolean {
    return !this.#unfit && !this.#prompted;
  }

  end(): Promise<ChildEnd> {
    this.#unfit = true;
    return this.child.end();
  }

  /** Sends a request. Rejects with the agent's error, or another one if the agent is gone. */
  async call(method: string, params: JsonRecord): Promise<JsonRecord> {
    this.#waiting++;
    try {
      return asRecord(await this.#context.request<unknown>(method, params)) ?? {};
    } finally {
      this.#waiting--;
    }
  }

  /** Resolves when all of the history that it says again has been read. */
  async replayed(): Promise<void> {
    await replayIsOver(
      () => this.#answersPing(),
      () => this.#updates,
    );
  }

  /** Whether it may take a prompt: it lives, and has had nothing more to say about the last one. */
  async isReady(): Promise<boolean> {
    await this.#answersPing();
    return this.isFit;
  }

  /** One prompt: what it says meanwhile, and its answer. There may be only one at a time. */
  prompt(content: PromptRequest["prompt"]): { readonly inbox: Inbox; readonly answer: Promise<JsonRecord> } {
    if (this.#prompted || this.sessionId === undefined) throw new Error("the agent takes no prompt");
    this.#prompted = true;
    const inbox = new Inbox();
    this.#inbox = inbox;
    this.child.countAnew();
    const answer = this.call("session/prompt", { sessionId: this.sessionId, prompt: content }).finally(() =>
      this.#closeInbox(),
    );
    answer.catch(() => {});
    return { inbox, answer };
  }

  /** Asks it to give up the prompt, which its answer then says. What it asks for is not answered any more. */
  cancel(): void {
    this.#voidQuestions();
    this.#context.notify("session/cancel", { sessionId: this.sessionId ?? "" }).catch(() => {});
  }

  get isPrompted(): boolean {
    return this.#prompted;
  }

  /** Sends what no agent knows, which it answers with an error, behind all that it had to say before. */
  async #answersPing(): Promise<boolean> {
    if (this.#ignoresPings) return false;
    const answer = this.#context.request<unknown>("_session_broker/ping", {}).catch(() => {});
    this.#ignoresPings = !(await settlesWithin(answer, longestPingMs));
    return !this.#ignoresPings;
  }

  get #context(): ClientContext {
    if (this.#connection === undefined) throw new Error("the agent is not connected");
    return this.#connection;
  }

  #take(params: JsonRecord): void {
    this.#updates++;
    const update = asRecord(params.update) ?? {};
    const belongsToPrompt = promptUpdates.includes(asString(update.sessionUpdate) ?? "");
    if (params.sessionId !== this.sessionId) {
      // Before the conversation is open this is its history; afterwards it is another conversation's.
      if (this.sessionId !== undefined && belongsToPrompt) this.#unfit = true;
      return;
    }
    if (this.#inbox !== undefined) this.#inbox.push({ kind: "update", update });
    else if (belongsToPrompt) this.#replace();
  }

  async #ask(params: JsonRecord, withdrawn: AbortSignal): Promise<JsonRecord> {
    const inbox = this.#inbox;
    if (inbox === undefined || params.sessionId !== this.sessionId) {
      this.#replace();
      return { outcome: { outcome: "cancelled" } };
    }
    let dismiss = () => {};
    const optionId = await new Promise<string | undefined>((choose) => {
      dismiss = () => choose(undefined);
      this.#questions.add(dismiss);
      withdrawn.addEventListener("abort", dismiss, { once: true });
      inbox.push({ kind: "question", params, choose, withdrawn });
    });
    this.#questions.delete(dismiss);
    return { outcome: optionId === undefined ? { outcome: "cancelled" } : { outcome: "selected", optionId } };
  }

  #voidQuestions(): void {
    for (const dismiss of this.#questions) dismiss();
  }

  #closeInbox(): void {
    this.#voidQuestions();
    this.#inbox?.close();
    this.#inbox = undefined;
    this.#prompted = false;
  }

  #replace(): void {
    if (this.#prompted) this.#unfit = true;
    else void this.end();
  }
}
