/** What is prepared once for each method: its implementation behind the interceptors, and its formats. */
import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import {
  Code,
  ConnectError,
  type ConnectRouter,
  type ContextValues,
  type HandlerContext,
  type Interceptor,
  type ServiceImpl,
  type StreamResponse,
  type UnaryResponse,
} from "@connectrpc/connect";
import {
  createMethodSerializationLookup,
  validateUniversalHandlerOptions,
} from "@connectrpc/connect/protocol";
import { createEndStreamSerialization } from "@connectrpc/connect/protocol-connect";
import type { ConnectNodeAdapterOptions } from "@connectrpc/connect-node";
import { type Call, callKey } from "./call.js";
import { onlyMessage } from "./envelopes.js";
import { answerWriter, type Payload } from "./messages/answer-writer.js";
import { requestReader } from "./messages/request-reader.js";

type Chain = ReturnType<Interceptor>;
type Invocation = Parameters<Chain>[0];

export interface FastMethod {
  readonly method: DescMethod;
  readonly streaming: boolean;
  /** A request in protobuf's binary format, or else in JSON. */
  readonly parse: (bytes: Uint8Array, binary: boolean) => object;
  /** An answer in protobuf's binary format, or else in JSON. */
  readonly serialize: (message: unknown, binary: boolean) => Payload;
  /** The implementation, behind the interceptors. */
  readonly invoke: Chain;
  readonly endStream: ReturnType<typeof createEndStreamSerialization>;
  readonly jsonOptions: ConnectNodeAdapterOptions["jsonOptions"];
  /** Largest message, in bytes. */
  readonly readMaxBytes: number;
}

/** By path. Methods whose requests are streams are left to connect-node. */
export function fastMethods(options: ConnectNodeAdapterOptions): ReadonlyMap<string, FastMethod> {
  const methods = new Map<string, FastMethod>();
  for (const [service, implementation, own] of servicesOf(options)) {
    const limits = validateUniversalHandlerOptions({ ...options, ...own });
    for (const method of service.methods) {
      const { methodKind } = method;
      if (methodKind !== "unary" && methodKind !== "server_streaming") continue;
      const streaming = methodKind === "server_streaming";
      const { binaryOptions, jsonOptions } = options;
      const serialization = createMethodSerializationLookup(method, binaryOptions, jsonOptions, limits);
      const call = implementation[method.localName]?.bind(implementation) ?? unimplemented(method);
      methods.set(`/${service.typeName}/${method.name}`, {
        method,
        streaming,
        parse: requestReader(method.input, serialization.getI.bind(serialization), options),
        serialize: answerWriter(method.output, serialization.getO.bind(serialization), options),
        endStream: createEndStreamSerialization(jsonOptions),
        jsonOptions,
        readMaxBytes: limits.readMaxBytes,
        invoke: behind(
          options.interceptors ?? [],
          streaming ? streamOf(method, call) : unaryOf(method, call),
        ),
      });
    }
  }
  return methods;
}

// biome-ignore lint/suspicious/noExplicitAny: the messages are those that the descriptor of the method says
type AnyImplementation = (input: any, context: HandlerContext) => any;

function servicesOf({ routes }: ConnectNodeAdapterOptions) {
  const found: [
    DescService,
    Record<string, AnyImplementation | undefined>,
    Parameters<ConnectRouter["service"]>[2],
  ][] = [];
  const recorder: Pick<ConnectRouter, "service"> = {
    service(desc: DescService, implementation: Partial<ServiceImpl<DescService>>, own) {
      found.push([desc, implementation as Record<string, AnyImplementation | undefined>, own]);
      return recorder as ConnectRouter;
    },
  };
  routes(recorder as ConnectRouter);
  return found;
}

function unimplemented({ parent, name }: DescMethod): AnyImplementation {
  return () => {
    throw new ConnectError(`${parent.typeName}.${name} is not implemented`, Code.Unimplemented);
  };
}

/** From the outside in, as connect-node applies them. */
function behind(interceptors: readonly Interceptor[], innermost: Chain): Chain {
  return interceptors.reduceRight((next, interceptor) => interceptor(next), innermost);
}

function unaryOf(method: DescMethod, implementation: AnyImplementation): Chain {
  return async (request) => {
    const call = callOf(request);
    const message = create(method.output, await implementation(request.message, new Context(call, request)));
    return new Answer(call, message) as unknown as UnaryResponse;
  };
}

function streamOf(method: DescMethod, implementation: AnyImplementation): Chain {
  return async (request) => {
    const call = callOf(request);
    const input = await onlyMessage(request.message as AsyncIterable<unknown>, "server-streaming");
    const messages = implementation(input, new Context(call, request));
    return {
      ...{ stream: true, method, message: whole(method, messages), service: method.parent },
      ...{ header: call.responseHeader, trailer: call.responseTrailer },
    } as StreamResponse;
  };
}

function callOf({ contextValues }: Invocation): Call {
  const call = contextValues.get(callKey);
  if (call === undefined) throw new TypeError("the request belongs to no call");
  return call;
}

class Answer {
  readonly stream = false;
  readonly method: DescMethod;
  readonly service: DescService;
  readonly #call: Call;

  constructor(
    call: Call,
    readonly message: unknown,
  ) {
    this.method = call.method;
    this.service = call.method.parent;
    this.#call = call;
  }

  get header(): Headers {
    return this.#call.responseHeader;
  }

  get trailer(): Headers {
    return this.#call.responseTrailer;
  }
}

/** What the implementation sees: the call, with what interceptors have put in the place of the request's own. */
class Context implements HandlerContext {
  readonly method: DescMethod;
  readonly service: DescService;
  readonly values: ContextValues;
  readonly requestMethod = "POST";
  readonly protocolName: string;
  readonly #call: Call;
  readonly #request: Invocation;

  constructor(call: Call, request: Invocation) {
    this.method = call.method;
    this.service = call.method.parent;
    this.values = request.contextValues;
    this.protocolName = call.encoding.protocol;
    this.#call = call;
    this.#request = request;
  }

  get timeoutMs(): () => number | undefined {
    return () => this.#call.timeoutMs();
  }

  get url(): string {
    return this.#call.url;
  }

  get signal(): AbortSignal {
    return this.#request.signal ?? this.#call.signal;
  }

  get requestHeader(): Headers {
    return this.#request.header;
  }

  get responseHeader(): Headers {
    return this.#call.responseHeader;
  }

  get responseTrailer(): Headers {
    return this.#call.responseTrailer;
  }
}

/** Implementations may answer with the fields of a message alone. */
function whole(
  method: DescMethod,
  messages: AsyncIterable<MessageInitShape<DescMessage>>,
): AsyncIterable<unknown> {
  return {
    [Symbol.asyncIterator]() {
      const source = messages[Symbol.asyncIterator]();
      const next = async () => {
        const { done = false, value } = await source.next();
        return { done, value: done ? undefined : create(method.output, value) };
      };
      return { next, return: async () => (await source.return?.()) ?? { done: true, value: undefined } };
    },
  };
}
