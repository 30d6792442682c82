/** Which credential a bearer token belongs to. */
import { timingSafeEqual } from "node:crypto";
import type { CredentialSettings } from "../config/config.js";
import { sha256 } from "../config/tokens.js";
import { baseScopeOf, type Caller } from "./caller.js";

export class Credentials {
  readonly #known: readonly { readonly digest: Buffer; readonly caller: Caller }[];

  constructor(settings: readonly CredentialSettings[]) {
    this.#known = settings.map(({ name, tokenSha256, role, scopes, shared = false }) => ({
      digest: Buffer.from(tokenSha256, "hex"),
      caller: { name, role, scopes, baseScope: baseScopeOf(scopes), shared },
    }));
  }

  /** From the value of an Authorization header. */
  find(authorization: string | null | undefined): Caller | undefined {
    const token = /^bearer +([^ ]+) *$/i.exec(authorization ?? "")?.[1];
    if (token === undefined) return undefined;
    const digest = Buffer.from(sha256(token), "hex");
    let found: Caller | undefined;
    // All are compared, so that the time says nothing about which one matched.
    for (const { digest: known, caller } of this.#known) {
      if (timingSafeEqual(known, digest)) found = caller;
    }
    return found;
  }
}
