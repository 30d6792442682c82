/** Page tokens: where a page ended, signed, and good only for the same caller and filter. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { BrokerError } from "../errors.js";

const macBytes = 16;

export function signToken(key: Uint8Array, purpose: string, content: unknown): string {
  const body = Buffer.from(JSON.stringify(content));
  return Buffer.concat([mac(key, purpose, body), body]).toString("base64url");
}

/** @throws BrokerError INVALID_FIELD if the token was not given out for this purpose */
export function readToken(key: Uint8Array, purpose: string, token: string, field: string): unknown {
  const bytes = Buffer.from(token, "base64url");
  const body = bytes.subarray(macBytes);
  const whole = bytes.toString("base64url") === token && bytes.length > macBytes;
  if (!whole || !timingSafeEqual(bytes.subarray(0, macBytes), mac(key, purpose, body))) {
    throw new BrokerError("INVALID_FIELD", `${field}: it was not given out for this request`);
  }
  return JSON.parse(body.toString());
}

function mac(key: Uint8Array, purpose: string, body: Uint8Array): Buffer {
  return createHmac("sha256", key).update(purpose).update("\0").update(body).digest().subarray(0, macBytes);
}
