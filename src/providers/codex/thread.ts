/** A conversation that an app server has loaded. */
import type { TurnUsage } from "../../turns/provider.js";
import { asRecord } from "../json.js";
import type { AppServer, ServerEnd, ThreadListener, ThreadMessage } from "./app-server.js";
import { totalOf } from "./usage.js";

export class Thread implements ThreadListener {
  /** Tokens over the conversation; undefined while it was not told. */
  total: TurnUsage | undefined;
  /** Begun, and nothing was said in it yet: the agent has not written it down. */
  isEmpty = false;
  #turn: ThreadListener | undefined;

  /** @param onUnsolicited called if the agent begins a turn that nobody has asked for */
  constructor(
    readonly id: string,
    readonly server: AppServer,
    readonly model: string | undefined,
    private readonly onUnsolicited: () => void,
  ) {}

  /** The turn that is told from now on what is said; undefined: none. */
  attach(turn: ThreadListener | undefined): void {
    this.#turn = turn;
  }

  take(message: ThreadMessage, bytes: number): void {
    if (message.method === "thread/tokenUsage/updated") {
      const total = asRecord(asRecord(message.params.tokenUsage)?.total);
      if (total !== undefined) this.total = totalOf(total);
    }
    if (this.#turn !== undefined) this.#turn.take(message, bytes);
    else if (message.kind === "request") this.server.refuse(message.id);
    else if (message.method === "turn/started") this.onUnsolicited();
  }

  gone(end: ServerEnd): void {
    this.#turn?.gone(end);
  }
}
