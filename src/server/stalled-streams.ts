import { constants, type ServerHttp2Stream } from "node:http2";

/**
 * Ends an HTTP/2 stream whose client has not ended its request and sends
 * nothing, or takes nothing of the response that waits for it. A stream on which
 * the server has nothing to say is left alone: a watch may be silent for hours.
 */
export function closeStalled(
  stream: ServerHttp2Stream,
  limits: { readonly requestTimeoutMs: number; readonly idleTimeoutMs: number },
): void {
  let isRequestOver = stream.endAfterHeaders;
  stream.setTimeout(isRequestOver ? limits.idleTimeoutMs : limits.requestTimeoutMs);
  stream.once("end", () => {
    isRequestOver = true;
    stream.setTimeout(limits.idleTimeoutMs);
  });
  stream.on("timeout", () => {
    // Node.js would send CANCEL only when something else is to be sent.
    if (!isRequestOver || stream.writableLength > 0) stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  });
}
