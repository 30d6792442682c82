/** Which credential a bearer token, or the certificate of a client, belongs to. */
import { timingSafeEqual } from "node:crypto";
import { setMaxListeners } from "node:events";
import type { CredentialSettings } from "../config/config.js";
import { sha256 } from "../config/tokens.js";
import { baseScopeOf, type Caller } from "./caller.js";

/** What a request shows of who asks. */
export interface Shown {
  /** The value of its Authorization header. */
  readonly authorization: string | null | undefined;
  /** Subject of the client's certificate. Default: there is none. Asked only if it matters. */
  readonly certificateSubject?: () => string | undefined;
}

interface Known {
  readonly settings: string;
  /** Of its token. Absent: it has none. */
  readonly digest?: Buffer;
  /** Empty: the certificate does not matter. */
  readonly subject: string;
  readonly caller: Caller;
  readonly revoked: AbortController;
}

export class Credentials {
  #known: readonly Known[] = [];
  readonly #revocations = new WeakMap<Caller, AbortSignal>();
  /** Digests of the tokens that were let in, by the header that showed them. */
  readonly #digests = new Map<string, Buffer>();

  constructor(settings: readonly CredentialSettings[]) {
    this.replace(settings);
  }

  /** What is no longer among them, or has another role or other scopes, is revoked at once. */
  replace(settings: readonly CredentialSettings[]): void {
    const before = new Map(this.#known.map((known) => [known.settings, known]));
    this.#digests.clear();
    this.#known = settings.map((credential) => {
      const { name, tokenSha256, certificateSubject: subject = "", role, scopes } = credential;
      const { shared = false, origins = [] } = credential;
      const text = JSON.stringify([name, tokenSha256, subject, role, scopes, shared, origins]);
      const kept = before.get(text);
      before.delete(text);
      if (kept !== undefined) return kept;
      const caller = { name, role, scopes, baseScope: baseScopeOf(scopes), shared, origins };
      const revoked = new AbortController();
      // Each stream that runs listens to it.
      setMaxListeners(0, revoked.signal);
      this.#revocations.set(caller, revoked.signal);
      const digest = tokenSha256 === "" ? {} : { digest: Buffer.from(tokenSha256, "hex") };
      return { settings: text, ...digest, subject, caller, revoked };
    });
    for (const { revoked } of before.values()) revoked.abort();
  }

  /** A token says who asks, if one is shown, and a certificate otherwise. */
  find({ authorization, certificateSubject = () => undefined }: Shown): Caller | undefined {
    return authorization == null
      ? this.#bySubject(certificateSubject)
      : this.#byToken(authorization, certificateSubject);
  }

  #bySubject(certificateSubject: () => string | undefined): Caller | undefined {
    const candidates = this.#known.filter(({ digest }) => digest === undefined);
    if (candidates.length === 0) return undefined;
    const shown = certificateSubject();
    return candidates.find(({ subject }) => subject === shown)?.caller;
  }

  #byToken(authorization: string, certificateSubject: () => string | undefined): Caller | undefined {
    const remembered = this.#digests.get(authorization);
    const shown = remembered ?? digestOf(authorization);
    if (shown === undefined) return undefined;
    let found: Known | undefined;
    // All are compared, so that the time says nothing about which one matched.
    for (const known of this.#known) {
      if (known.digest !== undefined && timingSafeEqual(known.digest, shown)) found = known;
    }
    if (found !== undefined && remembered === undefined) this.#remember(authorization, shown);
    const isHere = found?.subject === "" || found?.subject === certificateSubject();
    return isHere ? found?.caller : undefined;
  }

  #remember(authorization: string, digest: Buffer): void {
    // One token can be written with more and more spaces around it.
    if (this.#digests.size > 2 * this.#known.length) this.#digests.clear();
    this.#digests.set(authorization, digest);
  }

  /** Aborted once the credential that the caller had is no longer one. */
  revoked(caller: Caller): AbortSignal {
    const signal = this.#revocations.get(caller);
    if (signal === undefined) throw new TypeError("the caller was found by other credentials");
    return signal;
  }
}

/** Of the token in the header; undefined if there is none. */
function digestOf(authorization: string): Buffer | undefined {
  const token = /^bearer +([^ ]+) *$/i.exec(authorization)?.[1];
  return token === undefined ? undefined : Buffer.from(sha256(token), "hex");
}
