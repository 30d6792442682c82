/**
 * Closes HTTP/2 connections whose clients make work and want no answer: who
 * opens streams and cancels them at once (CVE-2023-44487) is not held back by
 * the number of open streams, and pings and settings have to be answered, too.
 */
import { constants, type ServerHttp2Session } from "node:http2";
import { Recent } from "./recent.js";

const windowMs = 10_000;

/** @param most streams that the client cancels, pings and settings within 10 s */
export function keepCalm(session: ServerHttp2Session, most: number): void {
  const vain = new Recent(windowMs, () => performance.now());
  const note = () => {
    if (session.destroyed || vain.note() <= most) return;
    // Tells the client with GOAWAY, and ends what runs for it.
    session.destroy(new Error("too many frames in vain"), constants.NGHTTP2_ENHANCE_YOUR_CALM);
  };
  session.on("stream", (stream) => {
    if (stream.aborted) note();
    else stream.on("aborted", note);
  });
  session.on("ping", note);
  session.on("remoteSettings", note);
}
