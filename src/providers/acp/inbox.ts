/** What an agent says during one prompt, in its order, until the prompt is answered. */
import type { JsonRecord } from "../json.js";

export type InboxItem =
  | { readonly kind: "update"; readonly update: JsonRecord }
  /** The agent asks for a permission and waits. */
  | {
      readonly kind: "question";
      readonly params: JsonRecord;
      /** Answers with one of the offered options; undefined: the question is void. */
      readonly choose: (optionId: string | undefined) => void;
      /** Aborted when the agent waits no more. */
      readonly withdrawn: AbortSignal;
    };

/** Items that may wait before the agent's output is left unread. */
const roomy = 256;

export class Inbox implements AsyncIterable<InboxItem> {
  readonly #items: InboxItem[] = [];
  #closed = false;
  #wake: (() => void) | undefined;
  #onRoom: (() => void) | undefined;

  push(item: InboxItem): void {
    if (this.#closed) return;
    this.#items.push(item);
    this.#wake?.();
  }

  /** Nothing more will come; what is there is still read. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
    this.#onRoom?.();
  }

  /** Resolves when more may be put in. */
  async room(): Promise<void> {
    if (this.#closed || this.#items.length < roomy) return;
    await new Promise<void>((resolve) => {
      this.#onRoom = resolve;
    });
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<InboxItem> {
    try {
      for (;;) {
        const item = this.#items.shift();
        if (this.#items.length < roomy) this.#onRoom?.();
        if (item !== undefined) yield item;
        else if (this.#closed) return;
        else
          await new Promise<void>((resolve) => {
            this.#wake = resolve;
          });
      }
    } finally {
      this.close();
    }
  }
}
