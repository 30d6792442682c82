import { ApiError, invalid } from "./errors.js";

/** Looks a request header up by its lower-case name. */
export type HeaderReader = (name: string) => string | undefined;

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Reads `IncomingMessage.rawHeaders`, whose bytes Node.js hands out as latin1,
 * as UTF-8: one id is the same id over every protocol. A header given twice
 * or with other bytes is 400.
 */
export function readHeaders(rawHeaders: readonly string[]): HeaderReader {
  return (name) => {
    let value: string | undefined;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      if (rawHeaders[i]?.toLowerCase() !== name) continue;
      if (value !== undefined) throw invalid(name, `header ${name} is given twice`);
      value = rawHeaders[i + 1] ?? "";
    }
    if (value === undefined) return undefined;
    try {
      return utf8.decode(Buffer.from(value, "latin1"));
    } catch {
      throw invalid(name, `header ${name} is not valid UTF-8`);
    }
  };
}

/** 400 for an empty value, which is a client's mistake: an unset id must not open a new session each time. */
export function presentHeader(header: HeaderReader, name: string): string | undefined {
  const value = header(name);
  if (value === "") throw invalid(name, `header ${name} is empty`);
  return value;
}

/** A text as a header value, the reverse of `readHeaders`. */
export function headerValue(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** The `Authorization` header, to be passed on as it is; 401 without a bearer token. */
export function bearerAuthorization(header: HeaderReader): string {
  const authorization = header("authorization");
  if (authorization === undefined || !/^Bearer +[!-~]+$/i.test(authorization)) {
    throw new ApiError("a bearer token is needed: Authorization: Bearer …", {
      status: 401,
      type: "authentication_error",
      code: "unauthenticated",
      retryable: false,
    });
  }
  return authorization;
}

/** The client's token, from `Authorization` or, as Anthropic's clients send it, from `x-api-key`. */
export function clientAuthorization(header: HeaderReader): string {
  const name = "x-api-key";
  const key = header(name);
  if (key === undefined) return bearerAuthorization(header);
  const authorization = bearerAuthorization((other) =>
    other === "authorization" ? `Bearer ${key}` : undefined,
  );
  const given = header("authorization");
  if (given !== undefined && bearerAuthorization(header).slice("Bearer".length).trim() !== key) {
    throw invalid(name, `header ${name} and header authorization hold different tokens`);
  }
  return authorization;
}
