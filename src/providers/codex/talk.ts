/**
 * One turn of a conversation in an app server: what is said, and what it comes
 * to.
 *
 *     asking ──its id──▶ open ──its end──────────────────────────▶ over
 *        └────stop──────┴─stop─▶ interrupted ──its end───────────▶ over
 *                                     └──not within interruptMs──▶ stuck
 *        (any) ──the process ends──▶ gone
 */
import type { ProviderEvent, RunningTotal, TurnInputPart } from "../../turns/provider.js";
import { InputError } from "../input-error.js";
import { asRecord, asString, type JsonRecord } from "../json.js";
import { OutputLimitError, type OutputLimits } from "../lines.js";
import { SilenceError } from "../output-wait.js";
import {
  RequestError,
  type ServerEnd,
  ServerGoneError,
  type ThreadListener,
  type ThreadMessage,
} from "./app-server.js";
import { answerToOther, parseQuestion } from "./approvals.js";
import { EventReader } from "./events.js";
import { messageInput, type UserInput } from "./input.js";
import type { RequestId } from "./protocol.js";
import type { Thread } from "./thread.js";
import { accountOf, type TurnAccount } from "./usage.js";

export interface TalkSettings {
  /** Whether somebody can be asked whether a tool may be used. */
  readonly ask: boolean;
  /** Longest time without a word about the turn. */
  readonly silenceTimeoutMs: number;
  /** How long an interrupt may take, from its request to the end of the turn. */
  readonly interruptMs: number;
  readonly limits: Pick<OutputLimits, "maxBytes" | "maxLines">;
}

export type TalkEnd =
  /** The turn as the agent reports it at its end. */
  | { readonly kind: "over"; readonly turn: JsonRecord }
  /** The agent has refused to begin it. */
  | { readonly kind: "refused"; readonly message: string }
  /** It was to stop and did not. */
  | { readonly kind: "stuck" }
  | { readonly kind: "gone"; readonly end: ServerEnd };

export class Talk implements ThreadListener {
  readonly reader = new EventReader();
  /** Why the provider has stopped it. */
  fault: OutputLimitError | SilenceError | undefined;
  /** It was told to stop before it was over. */
  wasInterrupted = false;
  end: TalkEnd | undefined;
  /** Resolves when `end` is set. */
  readonly ended: Promise<void>;
  #reportEnd: () => void = () => {};
  readonly #before: RunningTotal;
  #turnId: string | undefined;
  #queue: ProviderEvent[] = [];
  #wake: () => void = () => {};
  readonly #questions = new Map<RequestId, AbortController>();
  #bytes = 0;
  #lines = 0;
  #lastWordAt = performance.now();
  #silence: NodeJS.Timeout | undefined;
  #patience: NodeJS.Timeout | undefined;

  /** @param previousTotal what counts as the total until now if the agent has not told one */
  constructor(
    private readonly thread: Thread,
    private readonly settings: TalkSettings,
    previousTotal: RunningTotal,
  ) {
    this.#before = thread.total ?? previousTotal;
    this.ended = new Promise((resolve) => {
      this.#reportEnd = resolve;
    });
  }

  /** What the turn took until now; nothing if the agent has told nothing. */
  get account(): Partial<TurnAccount> {
    return this.thread.total === undefined ? {} : accountOf(this.thread.total, this.#before);
  }

  /** @param schema of the answer, as JSON */
  begin(input: readonly UserInput[], model: string | undefined, schema: string | undefined): void {
    const { thread } = this;
    thread.attach(this);
    thread.isEmpty = false;
    this.#watchSilence();
    const params = {
      threadId: thread.id,
      input,
      ...(model === undefined ? {} : { model }),
      ...(schema === undefined ? {} : { outputSchema: JSON.parse(schema) as unknown }),
    };
    const onResult = (result: JsonRecord) => this.#begun(asString(asRecord(result.turn)?.id));
    thread.server.call("turn/start", params, onResult).catch((error: unknown) => {
      if (error instanceof RequestError) this.#finish({ kind: "refused", message: error.message });
      else if (error instanceof ServerGoneError) this.gone(error.end);
    });
  }

  /** The events of the turn, until its end; none after it was told to stop. */
  async *events(): AsyncGenerator<ProviderEvent> {
    for (;;) {
      const events = this.#queue;
      this.#queue = [];
      for (const event of events) if (!this.wasInterrupted) yield event;
      if (this.#queue.length > 0) continue;
      if (this.end !== undefined) return;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  /** Gives the agent more text; false if it takes none any more, in which case it has not seen it. */
  async steer(input: readonly TurnInputPart[]): Promise<boolean> {
    if (this.#turnId === undefined || this.wasInterrupted || this.end !== undefined) return false;
    const { id, server } = this.thread;
    try {
      const params = { threadId: id, expectedTurnId: this.#turnId, input: messageInput(input) };
      await server.call("turn/steer", params);
      return true;
    } catch (error) {
      if (error instanceof InputError || error instanceof RequestError || error instanceof ServerGoneError)
        return false;
      throw error;
    }
  }

  /** Asks the agent to stop; it is stuck if it does not. */
  stop(): void {
    if (this.wasInterrupted || this.end !== undefined) return;
    this.wasInterrupted = true;
    this.#questions.clear();
    this.#patience = setTimeout(() => this.#finish({ kind: "stuck" }), this.settings.interruptMs);
    this.#interrupt();
  }

  dispose(): void {
    clearTimeout(this.#silence);
    clearTimeout(this.#patience);
    for (const question of this.#questions.values()) question.abort();
    this.#questions.clear();
    this.thread.attach(undefined);
  }

  take(message: ThreadMessage, bytes: number): void {
    if (this.end !== undefined) return;
    this.#lastWordAt = performance.now();
    if (!this.#counts(bytes)) return;
    if (message.kind === "request") {
      this.#takeRequest(message);
      return;
    }
    const { method, params } = message;
    if (method === "turn/started") {
      this.#begun(asString(asRecord(params.turn)?.id));
      // An interrupt before it has found no turn.
      if (this.wasInterrupted) this.#interrupt();
    }
    if (method === "serverRequest/resolved") this.#withdraw(params.requestId as RequestId);
    if (method === "turn/completed") {
      const turn = asRecord(params.turn) ?? {};
      if (turn.id === this.#turnId) this.#finish({ kind: "over", turn });
      return;
    }
    const { turnId } = params;
    if (turnId !== undefined && turnId !== this.#turnId) return;
    this.#give(this.reader.read(method, params));
  }

  gone(end: ServerEnd): void {
    this.#finish({ kind: "gone", end });
  }

  #begun(turnId: string | undefined): void {
    if (this.#turnId !== undefined) return;
    this.#turnId = turnId;
    if (this.wasInterrupted) this.#interrupt();
  }

  #interrupt(): void {
    if (this.#turnId === undefined) return;
    const { id, server } = this.thread;
    // If it refuses, the turn ends by itself, or it is stuck.
    server.call("turn/interrupt", { threadId: id, turnId: this.#turnId }).catch(() => {});
  }

  #takeRequest({ id, method, params }: Extract<ThreadMessage, { kind: "request" }>): void {
    const { server } = this.thread;
    const question = parseQuestion(method, params);
    if (question === undefined) {
      const answer = answerToOther(method);
      if (answer === undefined) server.refuse(id);
      else server.answer(id, answer);
      return;
    }
    if (!this.settings.ask || this.wasInterrupted) {
      server.answer(id, question.denied);
      return;
    }
    const withdrawal = new AbortController();
    this.#questions.set(id, withdrawal);
    const decide = ({ allowed }: { readonly allowed: boolean }) => {
      if (!this.#questions.delete(id)) return;
      this.#lastWordAt = performance.now();
      server.answer(id, allowed ? question.allowed : question.denied);
    };
    // The question about a patch does not repeat what is in it.
    const input = JSON.stringify({
      ...this.reader.inputOf(asString(params.itemId) ?? ""),
      ...question.input,
    });
    this.#give([{ kind: "permission", tool: question.tool, input, decide, withdrawn: withdrawal.signal }]);
  }

  #withdraw(id: RequestId): void {
    this.#questions.get(id)?.abort();
    this.#questions.delete(id);
  }

  #counts(bytes: number): boolean {
    if (this.fault !== undefined) return true;
    const { maxBytes, maxLines } = this.settings.limits;
    this.#bytes += bytes;
    this.#lines++;
    if (this.#bytes > maxBytes) this.fault = new OutputLimitError(`more than ${maxBytes} bytes of output`);
    else if (this.#lines > maxLines)
      this.fault = new OutputLimitError(`more than ${maxLines} lines of output`);
    else return true;
    this.stop();
    return false;
  }

  /** An agent that waits for an answer of ours is not silent. */
  #watchSilence(): void {
    const { silenceTimeoutMs } = this.settings;
    if (this.#questions.size > 0) this.#lastWordAt = performance.now();
    const leftMs = this.#lastWordAt + silenceTimeoutMs - performance.now();
    if (leftMs > 0) {
      this.#silence = setTimeout(() => this.#watchSilence(), leftMs);
    } else if (!this.wasInterrupted) {
      this.fault = new SilenceError(`no output for ${silenceTimeoutMs} ms`);
      this.stop();
    }
  }

  #give(events: readonly ProviderEvent[]): void {
    if (events.length === 0) return;
    this.#queue.push(...events);
    this.#wake();
  }

  #finish(end: TalkEnd): void {
    if (this.end !== undefined) return;
    this.end = end;
    clearTimeout(this.#silence);
    clearTimeout(this.#patience);
    this.#reportEnd();
    this.#wake();
  }
}
