import type { IncomingMessage } from "node:http";
import { ApiError, invalid } from "./errors.js";

const utf8 = new TextDecoder("utf-8", { fatal: true });

/** The client closed the connection before it had sent its request. Nobody is there to be told. */
export class ClientGoneError extends Error {
  override readonly name = "ClientGoneError";
}

/** Reads a JSON object: 413 if it is larger, 400 if it is not UTF-8, not JSON or no object, 415 if it is compressed. */
export async function readJsonObject(
  req: IncomingMessage,
  maxBytes: number,
): Promise<Readonly<Record<string, unknown>>> {
  const encoding = req.headers["content-encoding"];
  if (encoding !== undefined && encoding !== "identity") {
    throw new ApiError(`content-encoding ${encoding} is not taken`, {
      ...invalid("content-encoding", "").init,
      status: 415,
    });
  }
  return parseJsonObject(await readBody(req, maxBytes));
}

export function parseJsonObject(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  let text: string;
  try {
    text = utf8.decode(bytes);
  } catch {
    throw invalid("body", "the body is not valid UTF-8", "invalid_utf8");
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalid("body", "the body is not valid JSON", "invalid_json");
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw invalid("body", "the body is not a JSON object", "invalid_json");
  }
  return value as Record<string, unknown>;
}

/**
 * A client that is still sending does not read the answer, so a body that is
 * somewhat too large is read to its end and dropped.
 */
async function readBody(req: IncomingMessage, maxBytes: number): Promise<Buffer> {
  const mostDroppedBytes = 2 * maxBytes;
  const declared = Number(req.headers["content-length"] ?? 0);
  let size = 0;
  let chunks: Buffer[] = [];
  try {
    if (declared <= mostDroppedBytes) {
      const body: AsyncIterable<Buffer> = req.iterator({ destroyOnReturn: false });
      for await (const chunk of body) {
        size += chunk.length;
        if (size <= maxBytes) chunks.push(chunk);
        else chunks = [];
        if (size > mostDroppedBytes) break;
      }
    }
  } catch (cause) {
    throw new ClientGoneError("the client closed the connection", { cause });
  }
  if (Math.max(size, declared) > maxBytes) {
    throw new ApiError(`the body has more than ${maxBytes} bytes`, {
      status: 413,
      type: "invalid_request_error",
      param: "body",
      code: "message_too_large",
      retryable: false,
    });
  }
  return Buffer.concat(chunks);
}
