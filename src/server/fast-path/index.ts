/**
 * A short way for the common calls: unary and server-streaming, of Connect
 * (JSON and protobuf, over HTTP/1.1 and HTTP/2) and of gRPC, without
 * compression. connect-node serves every protocol in all its forms, and what
 * that takes is most of a small call's cost. Here the same implementations run
 * behind the same interceptors; everything unusual is left to connect-node,
 * decided on the header block alone. Both are held to each other by
 * test/fast-path.
 */
import type { ConnectNodeAdapterOptions } from "@connectrpc/connect-node";
import type { RequestHandler } from "../handler.js";
import { Call } from "./call.js";
import { encodingOf } from "./eligible.js";
import { exchangeOf } from "./exchange.js";
import { fastMethods } from "./methods.js";
import { Rounds } from "./rounds.js";
import { answerStream } from "./stream.js";
import { answerUnary } from "./unary.js";

/**
 * @param options those that connect-node is given
 * @param handler answers what is left to it
 * @param onError told of a defect, after which the request has no answer
 */
export function withFastPath(
  options: ConnectNodeAdapterOptions,
  handler: RequestHandler,
  onError: (error: unknown) => void,
): RequestHandler {
  const methods = fastMethods(options);
  const rounds = new Rounds();
  return (req, res) => {
    const fast = req.method === "POST" ? methods.get(req.url ?? "") : undefined;
    const encoding =
      fast === undefined
        ? undefined
        : encodingOf({
            headers: req.headers,
            httpMajor: req.httpVersionMajor,
            streaming: fast.streaming,
            readMaxBytes: fast.readMaxBytes,
          });
    if (fast === undefined || encoding === undefined) return handler(req, res);
    const { shutdownSignal, contextValues } = options;
    const call = new Call(fast.method, encoding, exchangeOf(req, res), shutdownSignal, contextValues?.(req));
    const answer = fast.streaming ? answerStream : answerUnary;
    answer(fast, call, rounds).catch((error: unknown) => {
      onError(error);
      call.end(error);
      res.destroy();
    });
  };
}
