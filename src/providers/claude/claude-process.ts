/**
 * One process of the CLI, and the conversation it has open.
 *
 *     busy ──the turn is over and may be followed──▶ resting ──next turn──▶ busy
 *                                                       └── it says something ──▶ spoiled
 *
 * While it rests nobody has asked it anything. An answer then belongs to no
 * turn, and nobody knows what the agent does: the process is ended, and the
 * session's next turn resumes the conversation in another one (ruling 25).
 */
import type { Child, ChildEnd } from "../process.js";
import type { WarmProcess } from "../warm-pool.js";
import { parseRecord } from "./records.js";

/** Records about a conversation; others, such as `command_lifecycle`, come at any time. */
const answers = new Set(["result", "assistant", "user", "stream_event", "control_request"]);

export class ClaudeProcess implements WarmProcess {
  readonly #lines: AsyncIterator<string>;
  /** A line that is waited for, or has come, and was given to nobody yet. */
  #ahead: Promise<IteratorResult<string>> | undefined;
  #resting = false;
  #isAsked = () => false;

  /** @param hasBegun called when it has read the files that it was started with */
  constructor(
    readonly child: Child,
    readonly hasBegun: () => unknown,
  ) {
    this.#lines = child.lines(() => this.#resting || this.#isAsked())[Symbol.asyncIterator]();
  }

  get exit(): Promise<unknown> {
    return this.child.exit;
  }

  end(): Promise<ChildEnd> {
    return this.child.end();
  }

  /** A turn begins. @param isAsked whether the agent waits for us, so that its silence is no fault */
  begin(isAsked: () => boolean = () => false): void {
    this.#resting = false;
    this.#isAsked = isAsked;
    this.child.countAnew();
  }

  /** The next line of the turn; rejects as `Child.lines` does. */
  next(): Promise<IteratorResult<string>> {
    const line = this.#ahead ?? this.#lines.next();
    this.#ahead = undefined;
    return line;
  }

  /** The turn is over; the process waits for the next one. */
  rest(): void {
    this.#resting = true;
    this.#isAsked = () => false;
    this.#watch();
  }

  #watch(): void {
    const line = this.#lines.next();
    this.#ahead = line;
    line.then(
      ({ done, value }) => {
        if (!this.#resting) return;
        if (done !== true && !isAnswer(value)) this.#watch();
        else void this.child.end();
      },
      () => void this.child.end(),
    );
  }
}

function isAnswer(line: string): boolean {
  const type = parseRecord(line)?.type;
  return typeof type === "string" && answers.has(type);
}
