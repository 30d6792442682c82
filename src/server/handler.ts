import type { connectNodeAdapter } from "@connectrpc/connect-node";

/** Answers requests of HTTP/1.1 and of HTTP/2. */
export type RequestHandler = ReturnType<typeof connectNodeAdapter>;
