/**
 * Callers that no credential knows are refused on the header of their requests:
 * what they send is neither kept nor decoded, however large it is.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Socket } from "node:net";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import type { RequestHandler, RequestHead } from "../server/handler.js";

type Request = Parameters<RequestHandler>[0];

/** So much is read and dropped, to keep an HTTP/1.1 connection whose client does not know its token is wrong. */
const droppedBytes = 64 * 1024;
/** What is closed with unread bytes is reset, and the client may not get to read its answer. */
const lingerMs = 1_000;
/** No credential has it, now or later: the answer is made a moment from now. */
const noCredential = "none";
const encodings = ["content-encoding", "connect-content-encoding", "grpc-encoding", "content-length"];

/**
 * @param complete answers requests in all their forms
 * @param handler answers callers that are known, and services that are open to all
 */
export function refuseUnknownCallers(
  complete: RequestHandler,
  handler: RequestHandler,
  isKnownCaller: (request: RequestHead) => boolean,
): RequestHandler {
  return (req, res) => {
    if (!needsCredential(req) || isKnownCaller(req)) return handler(req, res);
    if (!("stream" in req)) leaveUnread(req, res as ServerResponse);
    withoutBody(req);
    complete(req, res);
  };
}

const prefix = `/${SessionBroker.typeName}/`;

export function needsCredential({ method, url }: RequestHead): boolean {
  return method === "POST" && url?.startsWith(prefix) === true;
}

/** The request with the shortest message of its form, for which authentication fails as for any other. */
function withoutBody(req: Request): void {
  const body = shortestBody(req.headers["content-type"] ?? "");
  for (const name of encodings) delete req.headers[name];
  req.headers.authorization = noCredential;
  Object.defineProperty(req, Symbol.asyncIterator, {
    value: async function* () {
      yield body;
    },
  });
}

export function shortestBody(contentType: string): Uint8Array {
  const message = Buffer.from(/[/+]json\b/.test(contentType) ? "{}" : "");
  if (!/^application\/(grpc|connect\+)/.test(contentType)) return message;
  return Buffer.concat([Buffer.from([0, 0, 0, 0, message.length]), message]);
}

/** HTTP/2 holds a client back by itself; here the connection ends after the answer. */
function leaveUnread(req: IncomingMessage, res: ServerResponse): void {
  if (Number(req.headers["content-length"] ?? Number.POSITIVE_INFINITY) <= droppedBytes) return;
  // Node.js drops all that comes of a body that nobody has begun to read.
  req.read(0);
  res.setHeader("connection", "close");
  const { socket } = req;
  socket.destroySoon = () => linger(socket);
}

function linger(socket: Socket): void {
  socket.end();
  const timer = setTimeout(() => socket.destroy(), lingerMs);
  socket.once("close", () => clearTimeout(timer));
}
