/** Server-sent events. https://html.spec.whatwg.org/multipage/server-sent-events.html */
import type { ServerResponse } from "node:http";
import { drained } from "../../drained.js";

export interface EventStream {
  /** Resolves when the client can take more, or has left. The event has no name unless one is given. */
  send(data: unknown, name?: string): Promise<void>;
  /** Shows the client, and what lies between, that the connection lives. */
  keepAlive(): void;
  /** Ends, after a last line of data where the protocol has one. */
  end(mark?: string): Promise<void>;
}

/** Sends the head at once, and a sign of life, by default a comment, whenever nothing was sent between two calls of `every`. */
export function openEventStream(
  res: ServerResponse,
  headers: Readonly<Record<string, string>>,
  every: (callback: () => void) => () => void,
  signOfLife = ": keep-alive\n\n",
): EventStream {
  res.writeHead(200, {
    ...headers,
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    // Tells nginx not to buffer.
    "x-accel-buffering": "no",
  });
  res.flushHeaders();

  let silent = true;
  const stop = every(() => {
    if (silent) keepAlive();
    silent = true;
  });
  res.once("close", stop);

  function keepAlive(): void {
    // A client that does not read what it has needs no sign of life.
    if (!res.writableEnded && !res.writableNeedDrain) res.write(signOfLife);
  }

  async function write(text: string): Promise<void> {
    silent = false;
    if (!res.destroyed && !res.write(text)) await drained(res);
  }

  return {
    send: (data, name) =>
      write(`${name === undefined ? "" : `event: ${name}\n`}data: ${JSON.stringify(data)}\n\n`),
    keepAlive,
    async end(mark) {
      stop();
      if (mark !== undefined) await write(`data: ${mark}\n\n`);
      res.end();
    },
  };
}
