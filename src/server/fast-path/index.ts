/**
 * A short way for the common calls: unary and server-streaming, of Connect
 * (JSON and protobuf, over HTTP/1.1 and HTTP/2) and of gRPC, without
 * compression. connect-node serves every protocol in all its forms, and what
 * that takes is most of a small call's cost. Here the same implementations run
 * behind the same interceptors; everything unusual is left to connect-node,
 * decided on the header block alone. Both are held to each other by
 * test/fast-path.
 */
import type { ServerResponse } from "node:http";
import type { FastPath, RequestHandler, RequestHead } from "../handler.js";
import { PlainRequest } from "../plain-connection.js";
import { Call } from "./call.js";
import { encodingOf } from "./eligible.js";
import { type Exchange, Http1Exchange, Http2Exchange, PlainExchange } from "./exchange.js";
import { fastMethods } from "./methods.js";
import { Rounds } from "./rounds.js";
import { answerStream } from "./stream.js";
import { answerUnary } from "./unary.js";

export const withFastPath: FastPath = (options, complete, onError) => {
  const methods = fastMethods(options);
  const rounds = new Rounds();

  return {
    handler(req, res) {
      // What comes here of HTTP/2 is what the short way has left; of HTTP/1.1 that may be a common call as well.
      const isLeft = "stream" in req;
      if (isLeft || !begin(req, 1, () => new Http1Exchange(req, res as ServerResponse))) complete(req, res);
    },
    // Who expects something waits for Node.js to say that it may go on.
    shortWay: (request) =>
      request.headers.expect === undefined &&
      (request instanceof PlainRequest
        ? begin(request, 1, () => new PlainExchange(request))
        : begin(request, 2, () => new Http2Exchange(request))),
  };

  /** False: nothing was done. */
  function begin(request: RequestHead, httpMajor: number, exchangeOf: () => Exchange): boolean {
    const fast = request.method === "POST" ? methods.get(request.url ?? "") : undefined;
    if (fast === undefined) return false;
    const { headers } = request;
    const { streaming, readMaxBytes } = fast;
    const encoding = encodingOf({ headers, httpMajor, streaming, readMaxBytes });
    if (encoding === undefined) return false;
    const { shutdownSignal, contextValues } = options;
    const values = contextValues?.(request as Parameters<RequestHandler>[0]);
    const call = new Call(fast.method, encoding, exchangeOf(), shutdownSignal, values);
    const answer = fast.streaming ? answerStream : answerUnary;
    answer(fast, call, rounds).catch((error: unknown) => {
      onError(error);
      call.end(error);
      call.exchange.cutOff();
    });
    return true;
  }
};
