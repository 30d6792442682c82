import type { Client } from "@connectrpc/connect";
import type { GetServerInfoResponse } from "../../../gen/sessionbroker/v1/admin_pb.js";
import type { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";

/** Within this time a credential's answer is not asked for again; a revoked one is noticed by then. */
const keptMs = 5_000;
/** What is asked again after that may be used so long, until the new answer is there. */
const laggingMs = 60_000;
const maxKept = 256;

type Answer = Promise<GetServerInfoResponse>;

interface Kept {
  readonly answer: Answer;
  readonly untilMs: number;
  /** The answer before it, until this one is there. */
  before: Answer | undefined;
}

/** What the broker says of itself to a credential, asked once for requests that come close together. */
export class ServerInfo {
  readonly #kept = new Map<string, Kept>();

  constructor(
    private readonly broker: Client<typeof SessionBroker>,
    private readonly now: () => number,
  ) {}

  current(authorization: string): Answer {
    const kept = this.#kept.get(authorization);
    return kept !== undefined && this.now() < kept.untilMs
      ? kept.answer
      : this.#ask(authorization, undefined);
  }

  /** Waits for no newer answer if there is one of the last minute: for calls that the broker judges itself. */
  recent(authorization: string): Answer {
    const kept = this.#kept.get(authorization);
    if (kept === undefined || this.now() >= kept.untilMs + laggingMs) return this.current(authorization);
    const answer = kept.before ?? kept.answer;
    // Who is refused now asks anew at the next call.
    if (this.now() >= kept.untilMs) this.#ask(authorization, answer).catch(() => {});
    return answer;
  }

  #ask(authorization: string, before: Answer | undefined): Answer {
    this.#kept.delete(authorization);
    const [oldest] = this.#kept.keys();
    if (oldest !== undefined && this.#kept.size >= maxKept) this.#kept.delete(oldest);

    const answer = this.broker.getServerInfo({}, { headers: { authorization } });
    const kept: Kept = { answer, untilMs: this.now() + keptMs, before };
    this.#kept.set(authorization, kept);
    answer.then(
      () => {
        kept.before = undefined;
      },
      () => {
        if (this.#kept.get(authorization) === kept) this.#kept.delete(authorization);
      },
    );
    return answer;
  }
}
