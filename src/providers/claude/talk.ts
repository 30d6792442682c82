/** What is said to one process of the CLI during its turn, beside the first line, and what it says back. */
import { randomUUID } from "node:crypto";
import type { ProviderEvent, TurnInputPart } from "../../turns/provider.js";
import { InputError } from "../input-error.js";
import type { Child } from "../process.js";
import { isAtLeast } from "../version.js";
import {
  allowLine,
  type ControlRecord,
  denyLine,
  interruptLine,
  parseControl,
  unsupportedLine,
} from "./control.js";
import {
  answered,
  begun,
  type Conversation,
  interrupted,
  reported,
  type Standing,
  standingOf,
  wrote,
} from "./conversation.js";
import { userLine } from "./input.js";
import type { ClaudeRecord, ClaudeResult } from "./records.js";
import { namesLinesSince } from "./version.js";

export interface TalkSettings {
  /** What becomes of a tool that needs a permission. */
  readonly permissions: "deny" | "ask" | "allow";
  /** How long an interrupt may take, from its request to the terminal record. */
  readonly interruptMs: number;
  /** How long the CLI may take to end after its last result. */
  readonly lingerMs: number;
  /** Whether the process may stay for the session's next turn. */
  readonly warm: boolean;
}

export class Talk {
  /** Results of this turn, oldest first. */
  readonly results: ClaudeResult[] = [];
  /** It gave all its results and had to be ended. */
  lingered = false;
  /** A result about none of the lines that were written. */
  #unsolicited = false;
  #conversation: Conversation;
  /** Without names in its results nobody could tell which lines the CLI has answered. */
  #namesLines = false;
  readonly #interruptId = randomUUID();
  /** Ids of questions that wait for an answer. */
  readonly #questions = new Map<string, AbortController>();
  #timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly child: Child,
    firstLine: string,
    private readonly settings: TalkSettings,
  ) {
    this.#conversation = begun(firstLine);
  }

  get standing(): Standing {
    return standingOf(this.#conversation);
  }

  /** Whether it was told to stop before all was answered. */
  get wasInterrupted(): boolean {
    return this.#conversation.interrupt !== undefined;
  }

  /** Whether the agent waits for an answer to a question. */
  get isAsked(): boolean {
    return this.#questions.size > 0;
  }

  /**
   * Whether another turn may follow in this process: all that was written is
   * accounted for, and nothing else was answered (ruling 25).
   */
  get mayStay(): boolean {
    const last = this.results.at(-1);
    if (this.standing !== "over" || last === undefined || this.#unsolicited) return false;
    const hasAnswered = !last.isError && last.numTurns !== 0;
    return this.settings.warm && this.#namesLines && (hasAnswered || this.wasInterrupted);
  }

  /** Whether a line that was written for this turn has this uuid. */
  isAbout(uuid: string | undefined): boolean {
    return uuid !== undefined && this.#conversation.written.includes(uuid);
  }

  /** To be told the version that the CLI says it is. */
  versionIs(version: string | undefined): void {
    this.#namesLines = isAtLeast(version, namesLinesSince);
  }

  /** Gives the agent more text; false if it takes none, in which case it has not seen it. */
  async steer(input: readonly TurnInputPart[]): Promise<boolean> {
    const uuid = randomUUID();
    const line = lineOf(uuid, input);
    const next = this.#namesLines && line !== undefined ? wrote(this.#conversation, uuid) : undefined;
    if (line === undefined || next === undefined) return false;
    this.#conversation = next;
    if ((await this.child.write(line)) === "taken") return true;
    // A process that can be told nothing any more will not answer this line either.
    void this.child.end();
    return false;
  }

  /** Asks the agent to stop, and ends its process if it does not. */
  stop(): void {
    if (this.standing === "over") this.#endLingering();
    const next = interrupted(this.#conversation);
    if (next === undefined) return;
    this.#conversation = next;
    this.#questions.clear();
    this.#timer = setTimeout(() => void this.child.end(), this.settings.interruptMs);
    void this.child.write(interruptLine(this.#interruptId));
  }

  /** Takes a result; false if it is none of this turn. */
  takeResult(result: ClaudeResult): boolean {
    const next = reported(this.#conversation, result.inputUuids);
    if (next === undefined) {
      this.#unsolicited = true;
      return false;
    }
    this.results.push(result);
    this.#move(next);
    return true;
  }

  /** Takes a control record; a question that the turn is to answer is returned. Undefined if it is none. */
  takeControl(record: ClaudeRecord): ProviderEvent[] | undefined {
    const control = parseControl(record);
    switch (control?.kind) {
      case undefined:
        return undefined;
      case "question":
        return this.#ask(control);
      case "withdrawal":
        this.#questions.get(control.id)?.abort();
        this.#questions.delete(control.id);
        return [];
      case "other request":
        this.#answer(unsupportedLine(control.id));
        return [];
      case "answer":
        // The CLI repeats our own answers.
        if (control.id !== this.#interruptId) return [];
        if (control.isError) void this.child.end();
        else this.#move(answered(this.#conversation, control));
        return [];
    }
  }

  /** The turn is over, whatever becomes of the process. */
  dispose(): void {
    this.#questions.clear();
    clearTimeout(this.#timer);
  }

  #move(next: Conversation): void {
    this.#conversation = next;
    switch (standingOf(next)) {
      case "over":
        clearTimeout(this.#timer);
        if (this.mayStay) return;
        this.child.closeInput();
        this.#timer = setTimeout(() => this.#endLingering(), this.settings.lingerMs);
        return;
      case "stuck":
        void this.child.end();
        return;
    }
  }

  #endLingering(): void {
    this.lingered = true;
    void this.child.end();
  }

  #ask({ id, tool, input }: Extract<ControlRecord, { kind: "question" }>): ProviderEvent[] {
    const { permissions } = this.settings;
    if (permissions !== "ask") {
      this.#answer(
        permissions === "allow" ? allowLine(id, input) : denyLine(id, "Nobody can be asked here."),
      );
      return [];
    }
    if (this.standing !== "open" || this.#questions.has(id)) return [];
    const withdrawal = new AbortController();
    this.#questions.set(id, withdrawal);
    const decide = ({ allowed, message }: { readonly allowed: boolean; readonly message: string }) => {
      if (this.#questions.delete(id)) this.#answer(allowed ? allowLine(id, input) : denyLine(id, message));
    };
    return [{ kind: "permission", tool, input: JSON.stringify(input), decide, withdrawn: withdrawal.signal }];
  }

  /** Nothing is written after an interrupt. */
  #answer(line: string): void {
    if (this.standing === "open") void this.child.write(line);
  }
}

function lineOf(uuid: string, input: readonly TurnInputPart[]): string | undefined {
  try {
    return userLine(uuid, input);
  } catch (error) {
    if (error instanceof InputError) return undefined;
    throw error;
  }
}
