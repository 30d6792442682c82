/** Which credential a bearer token belongs to. */
import { timingSafeEqual } from "node:crypto";
import { setMaxListeners } from "node:events";
import type { CredentialSettings } from "../config/config.js";
import { sha256 } from "../config/tokens.js";
import { baseScopeOf, type Caller } from "./caller.js";

interface Known {
  readonly settings: string;
  readonly digest: Buffer;
  readonly caller: Caller;
  readonly revoked: AbortController;
}

export class Credentials {
  #known: readonly Known[] = [];
  readonly #revocations = new WeakMap<Caller, AbortSignal>();

  constructor(settings: readonly CredentialSettings[]) {
    this.replace(settings);
  }

  /** What is no longer among them, or has another role or other scopes, is revoked at once. */
  replace(settings: readonly CredentialSettings[]): void {
    const before = new Map(this.#known.map((known) => [known.settings, known]));
    this.#known = settings.map((credential) => {
      const { name, tokenSha256, role, scopes, shared = false, origins = [] } = credential;
      const text = JSON.stringify([name, tokenSha256, role, scopes, shared, origins]);
      const kept = before.get(text);
      before.delete(text);
      if (kept !== undefined) return kept;
      const caller = { name, role, scopes, baseScope: baseScopeOf(scopes), shared, origins };
      const revoked = new AbortController();
      // Each stream that runs listens to it.
      setMaxListeners(0, revoked.signal);
      this.#revocations.set(caller, revoked.signal);
      return { settings: text, digest: Buffer.from(tokenSha256, "hex"), caller, revoked };
    });
    for (const { revoked } of before.values()) revoked.abort();
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

  /** Aborted once the credential that the caller had is no longer one. */
  revoked(caller: Caller): AbortSignal {
    const signal = this.#revocations.get(caller);
    if (signal === undefined) throw new TypeError("the caller was found by other credentials");
    return signal;
  }
}
