/**
 * Conversations told apart by what was said in them, for callers that name none.
 *
 * Each message is a link: a digest of the link before and of the message. The
 * first link stands for whose conversation it is. A turn that completes gives
 * its session the link after its answer; a later request whose history leads to
 * that very link goes on there. A link that was ever given to two sessions
 * belongs to none, since nobody can tell which of them is meant: two people who
 * say the same and are answered the same have two sessions (ruling 36).
 *
 * Links are made with a key of the store's own, so that they say nothing about
 * what was said.
 */
import { createHash, createHmac } from "node:crypto";
import type { SessionKey } from "../sessions/key.js";
import { normalise, type ToldMessage } from "./history.js";
import type { TurnInputPart } from "./provider.js";

/** What conversations must have in common to be one. */
export interface ChainOwner {
  readonly credential: string;
  readonly scope: string;
  readonly provider: string;
  readonly model: string;
  readonly system: string;
  readonly endUser: string;
}

/** What a caller's history leads to. */
export interface ChainEnd {
  /** After the last answer that it tells; absent: it tells none. */
  readonly anchor?: Uint8Array;
  /** After the input. */
  readonly link: Uint8Array;
}

export class Chain {
  readonly #key: Buffer;

  /** @param storeKey secret of the store; the chain's own key is derived from it */
  constructor(storeKey: Uint8Array) {
    this.#key = createHmac("sha256", storeKey).update("links of conversations").digest();
  }

  of(owner: ChainOwner, history: readonly ToldMessage[], input: ToldMessage): ChainEnd {
    const { credential, scope, provider, model, system, endUser } = owner;
    let link = this.#digest([credential, scope, provider, model, sha256(system), endUser]);
    let anchor: Uint8Array | undefined;
    for (const message of history) {
      link = this.after(link, message);
      if (message.author === "assistant") anchor = link;
    }
    return { link: this.after(link, input), ...(anchor === undefined ? {} : { anchor }) };
  }

  /**
   * Of a chat that its caller names. What was said before is not in the links:
   * such clients drop what is old. Each begins a chain of one answer.
   */
  ofKey({ scope, externalId, provider }: SessionKey, told: string | undefined): ChainEnd {
    const link = this.#digest(["answers of", scope, externalId, provider]);
    if (told === undefined) return { link };
    return { link, anchor: this.after(link, { author: "assistant", text: told }) };
  }

  /** The link after one more message. */
  after(link: Uint8Array, { author, text, attachments = [] }: ToldMessage): Buffer {
    return this.#digest([
      Buffer.from(link).toString("base64"),
      author,
      normalise(text),
      ...attachments.map(sha256),
    ]);
  }

  #digest(parts: readonly string[]): Buffer {
    return createHmac("sha256", this.#key).update(JSON.stringify(parts)).digest();
  }
}

/** The input of a turn as a message of its caller's later histories. */
export function toldInput(parts: readonly TurnInputPart[]): ToldMessage {
  const texts = parts.flatMap((part) => (part.kind === "text" ? [part.text] : []));
  const attachments = parts.flatMap((part) => (part.kind === "text" ? [] : [part.data]));
  return { author: "user", text: texts.join("\n"), ...(attachments.length === 0 ? {} : { attachments }) };
}

function sha256(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
