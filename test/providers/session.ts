/** A session whose turns are run by a provider, one after another, as the dispatcher does. */
import { randomUUID } from "node:crypto";
import { findMarked } from "../../src/providers/marks.js";
import type {
  Exchange,
  NativeBinding,
  Provider,
  ProviderEvent,
  ProviderTurn,
} from "../../src/turns/provider.js";
import { type Ran, runTurn, turnOf } from "./turns.js";

let lastRecordNo = 1_000_000;

export class Session {
  readonly mark = `${randomUUID()}/life/session`;
  readonly recordNo = ++lastRecordNo;
  readonly #exchanges: Exchange[] = [];
  #binding: NativeBinding;
  #turns = 0;
  #total = {};

  constructor(
    public provider: Provider,
    private readonly workspace: string,
  ) {
    const brokerAssigns = provider.capabilities.assignsNativeId === "broker";
    this.#binding = { state: "fresh", ...(brokerAssigns ? { nativeId: randomUUID() } : {}) };
  }

  get nativeId(): string {
    return this.#binding.nativeId ?? "";
  }

  turn(prompt: string, fields: Partial<ProviderTurn> = {}): ProviderTurn {
    const { resume } = this.provider.capabilities;
    return turnOf(prompt, {
      workspace: this.workspace,
      recordNo: this.recordNo,
      turnNumber: ++this.#turns,
      childMark: this.mark,
      binding: this.#binding,
      previousTotal: this.#total,
      ...(resume ? {} : { unseen: [...this.#exchanges] }),
      ...fields,
    });
  }

  /** Runs a turn to its end, and keeps what it has made of the session. */
  async run(
    prompt: string,
    fields: Partial<ProviderTurn> = {},
    onEvent: (event: ProviderEvent) => unknown = () => {},
  ): Promise<Ran> {
    const ran = await runTurn(this.provider, this.turn(prompt, fields), onEvent);
    const started = ran.events.find((event) => event.kind === "started");
    const nativeId = started?.nativeId ?? this.#binding.nativeId;
    const bound = ran.outcome.status === "completed" || this.#binding.state === "bound";
    if (started !== undefined) {
      this.#binding = {
        state: bound ? "bound" : "provisional",
        ...(nativeId === undefined ? {} : { nativeId }),
      };
    }
    if (ran.outcome.status === "completed") {
      this.#exchanges.push({ user: prompt, assistant: ran.outcome.text });
    }
    this.#total = ran.outcome.total ?? this.#total;
    return ran;
  }

  /** Its processes, the tools that they run included. */
  async pids(): Promise<readonly number[]> {
    return (await findMarked((mark) => mark === this.mark)).map(({ pid }) => pid).sort((a, b) => a - b);
  }
}

export const startedOf = (ran: Ran) => ran.events.find((event) => event.kind === "started");
