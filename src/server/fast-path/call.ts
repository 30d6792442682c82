/**
 * One call, as the implementation and the interceptors see it. What few calls
 * look at (signal, headers) is made when it is looked at: AbortController and
 * Headers are most of what a small call costs otherwise.
 */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ContextValues,
  createContextKey,
  type StreamRequest,
  type UnaryRequest,
} from "@connectrpc/connect";
import { CallValues } from "../call-values.js";
import type { OutgoingHeaders } from "../plain-reply.js";
import type { Encoding } from "./eligible.js";
import type { Exchange } from "./exchange.js";
import { RequestHeaders, toNodeHeaders } from "./headers.js";

/** Node.js lets longer ones run out at once. */
const longestTimerMs = 2 ** 31 - 1;

/** The call that a request belongs to, also after an interceptor has put another request in its place. */
export const callKey = createContextKey<Call | undefined>(undefined);

export class Call {
  readonly #deadlineMs: number | undefined;
  #controller: AbortController | undefined;
  #timer: NodeJS.Timeout | undefined;
  #responseHeader: Headers | undefined;
  #responseTrailer: Headers | undefined;
  #onShutdown: (() => void) | undefined;
  #over = false;

  constructor(
    readonly method: DescMethod,
    readonly encoding: Encoding,
    readonly exchange: Exchange,
    private readonly shutdown: AbortSignal | undefined,
    readonly values: ContextValues = new CallValues(),
  ) {
    values.set(callKey, this);
    if (encoding.timeoutMs !== undefined) this.#deadlineMs = Date.now() + encoding.timeoutMs;
  }

  /** As interceptors see it. */
  request(message: unknown): UnaryRequest | StreamRequest {
    const request = new Request(this, message);
    if (this.method.methodKind === "unary") return request as unknown as UnaryRequest;
    // Interceptors put others in the place of a stream, with what is the object's own.
    const { url, signal } = this;
    return { ...request, url, signal } as unknown as StreamRequest;
  }

  get url(): string {
    return this.exchange.url;
  }

  timeoutMs(): number | undefined {
    return this.#deadlineMs === undefined ? undefined : this.#deadlineMs - Date.now();
  }

  /** Aborted at the deadline, when the client leaves, when the server stops, and when the call is over. */
  get signal(): AbortSignal {
    this.#controller ??= this.#watch(new AbortController());
    return this.#controller.signal;
  }

  get responseHeader(): Headers {
    this.#responseHeader ??= new Headers({ "content-type": this.encoding.contentType });
    return this.#responseHeader;
  }

  get responseTrailer(): Headers {
    this.#responseTrailer ??= new Headers();
    return this.#responseTrailer;
  }

  /** What the implementation has put there; undefined if it has not looked at them. */
  get written(): { readonly header: Headers | undefined; readonly trailer: Headers | undefined } {
    return { header: this.#responseHeader, trailer: this.#responseTrailer };
  }

  /** Of an answer in envelopes. */
  get head(): OutgoingHeaders {
    return this.#responseHeader === undefined
      ? { "content-type": this.encoding.contentType }
      : toNodeHeaders(this.#responseHeader);
  }

  end(reason?: unknown): void {
    if (this.#over) return;
    this.#over = true;
    clearTimeout(this.#timer);
    if (this.#controller === undefined) return;
    if (this.#onShutdown !== undefined) this.shutdown?.removeEventListener("abort", this.#onShutdown);
    this.#controller.abort(reason);
  }

  #watch(controller: AbortController): AbortController {
    const leftMs = this.timeoutMs();
    if (this.#over || this.exchange.gone) controller.abort();
    else if (leftMs !== undefined && leftMs <= 0) controller.abort(timedOut());
    else if (this.shutdown?.aborted === true) controller.abort(this.shutdown.reason);
    else {
      this.#onShutdown = () => controller.abort(this.shutdown?.reason);
      this.shutdown?.addEventListener("abort", this.#onShutdown);
      this.exchange.onGone(() => controller.abort());
      if (leftMs !== undefined) {
        this.#timer = setTimeout(() => controller.abort(timedOut()), Math.min(leftMs, longestTimerMs));
      }
    }
    return controller;
  }
}

/** Its getters are those of the class: an object with getters of its own costs more than all the rest. */
class Request {
  readonly stream: boolean;
  readonly method: DescMethod;
  readonly service: DescService;
  readonly requestMethod = "POST";
  readonly header: Headers;
  readonly contextValues: ContextValues;
  readonly #call: Call;

  constructor(
    call: Call,
    readonly message: unknown,
  ) {
    this.stream = call.method.methodKind !== "unary";
    this.method = call.method;
    this.service = call.method.parent;
    this.header = new RequestHeaders(call.exchange.headers);
    this.contextValues = call.values;
    this.#call = call;
  }

  get url(): string {
    return this.#call.url;
  }

  get signal(): AbortSignal {
    return this.#call.signal;
  }
}

function timedOut(): ConnectError {
  return new ConnectError("the operation timed out", Code.DeadlineExceeded);
}
