/**
 * A connection of HTTP/1.1 without Node.js's server, as long as each request is
 * plain and comes whole in one read. Node.js's request and response cost as much
 * as a small call.
 *
 *     waiting ── a request that the short way takes ──▶ answering
 *     answering ── the answer is written ──▶ waiting
 *     waiting ── anything else ──▶ left to Node.js's server, for good, with all that is unanswered
 *     any ── the client leaves, silence, drain ──▶ closed; answering first, if it is drained
 *
 * What comes while it is answering waits, and the client with it.
 */
import type { Socket } from "node:net";
import type { RequestHead, ShortWay } from "./handler.js";
import { beyondBounds } from "./header-bounds.js";
import type { ConnectionLimits } from "./limits.js";
import { type KnownHeads, type PlainHead, plainHead } from "./plain-head.js";
import { PlainReply, type ReplyOptions } from "./plain-reply.js";

/** A whole request of HTTP/1.1. */
export class PlainRequest implements RequestHead {
  readonly method = "POST";

  constructor(
    private readonly head: PlainHead,
    readonly socket: Socket,
    readonly body: Buffer,
    readonly reply: PlainReply,
  ) {}

  get url(): string {
    return this.head.url;
  }

  /** Those of several requests with the same header are one object. */
  get headers(): PlainHead["headers"] {
    return this.head.headers;
  }

  get rawHeaders(): string[] {
    return this.head.rawHeaders;
  }
}

export interface PlainOptions {
  readonly shortWay: ShortWay;
  readonly limits: ConnectionLimits;
  /** Of all connections with these limits. */
  readonly heads: KnownHeads;
  /** The short way has taken a request. */
  readonly onRequest: () => void;
  /** The connection is Node.js's from now on; all that is unanswered is back in the socket, which is paused. */
  readonly onLeft: () => void;
}

const headEnd = Buffer.from("\r\n\r\n");

interface ReadHead {
  /** With the empty line. */
  readonly bytes: Buffer;
  /** Without it. */
  readonly text: string;
  readonly head: PlainHead;
}

function beginsWith(chunk: Buffer, bytes: Buffer): boolean {
  const { length } = bytes;
  return chunk.length >= length && chunk.compare(bytes, 0, length, 0, length) === 0;
}

export class PlainConnection {
  #reply: PlainReply | undefined;
  /** What came while a request was answered. */
  #early: Buffer | undefined;
  /** The header of the request before: most clients send the same again, */
  #last: ReadHead | undefined;
  /** or the one before that, which differs in the length of the body. */
  #other: ReadHead | undefined;
  /** There is nothing more to be asked on it. */
  #isLast = false;
  readonly #replyOptions: ReplyOptions;

  constructor(
    private readonly socket: Socket,
    private readonly options: PlainOptions,
  ) {
    const { idleTimeoutMs } = options.limits;
    this.#replyOptions = {
      keptMs: idleTimeoutMs,
      isLast: () => this.#isLast,
      onEnd: () => this.#onAnswered(),
    };
    socket.setTimeout(idleTimeoutMs);
    socket.on("data", this.#onData);
    socket.on("end", this.#onEnd);
    socket.on("error", ignore);
    socket.on("close", this.#onClose);
    socket.on("timeout", this.#onTimeout);
  }

  /** Closes it, after the answer if there is one to come. */
  drain(): void {
    this.#isLast = true;
    if (this.#reply === undefined) this.socket.destroySoon();
  }

  #onData = (chunk: Buffer): void => {
    if (this.#reply === undefined) {
      this.#take(chunk);
    } else {
      this.#early = this.#early === undefined ? chunk : Buffer.concat([this.#early, chunk]);
      this.socket.pause();
    }
  };

  #onEnd = (): void => {
    this.socket.end();
  };

  #onClose = (): void => {
    this.#reply?.lose();
  };

  #onTimeout = (): void => {
    if (this.#reply === undefined || this.socket.writableLength > 0) this.socket.destroy();
  };

  #take(chunk: Buffer): void {
    const { shortWay, heads, onRequest } = this.options;
    const known = this.#knownHead(chunk);
    const read = known ?? this.#readHead(chunk);
    if (read === undefined) return void this.#leave(chunk);
    const { head, bytes } = read;
    const body = chunk.subarray(bytes.length);
    const reply = new PlainReply(this.socket, this.#replyOptions);
    const isWhole = body.length === head.bodyBytes;
    if (!isWhole || !shortWay(new PlainRequest(head, this.socket, body, reply)))
      return void this.#leave(chunk);
    if (known === undefined) heads.add(read.text, head);
    if (read !== this.#last) {
      this.#other = this.#last;
      this.#last = read;
    }
    this.#reply = reply;
    this.#isLast ||= head.isLast;
    onRequest();
  }

  /** One of the last two. */
  #knownHead(chunk: Buffer): ReadHead | undefined {
    if (this.#last !== undefined && beginsWith(chunk, this.#last.bytes)) return this.#last;
    return this.#other !== undefined && beginsWith(chunk, this.#other.bytes) ? this.#other : undefined;
  }

  /** Undefined if it is not plain, or not there to its end. */
  #readHead(chunk: Buffer): ReadHead | undefined {
    const end = chunk.indexOf(headEnd);
    const text = end === -1 ? "" : chunk.toString("latin1", 0, end);
    const head = this.options.heads.get(text) ?? this.#withinBounds(plainHead(text));
    // A copy, since the chunk is a part of much more.
    return head && { bytes: Buffer.from(chunk.subarray(0, end + headEnd.length)), text, head };
  }

  #withinBounds(head: PlainHead | undefined): PlainHead | undefined {
    if (head === undefined) return undefined;
    return beyondBounds(head.url, head.rawHeaders, this.options.limits) === undefined ? head : undefined;
  }

  #onAnswered(): void {
    this.#reply = undefined;
    if (this.#isLast) return void this.socket.destroySoon();
    const early = this.#early;
    if (early === undefined) return;
    this.#early = undefined;
    this.#take(early);
    this.socket.resume();
  }

  #leave(chunk: Buffer): void {
    const { socket } = this;
    socket.pause();
    socket.setTimeout(0);
    socket.off("data", this.#onData);
    socket.off("end", this.#onEnd);
    socket.off("error", ignore);
    socket.off("close", this.#onClose);
    socket.off("timeout", this.#onTimeout);
    socket.unshift(chunk);
    this.options.onLeft();
  }
}

/** The close that follows it is all that matters of it. */
function ignore(): void {}
