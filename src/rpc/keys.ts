/** Keys as requests give them, in the spelling of their rows. */
import type { SessionKey as KeyMessage } from "../../gen/sessionbroker/v1/session_pb.js";
import type { ScopeSettings } from "../config/config.js";
import { BrokerError } from "../errors.js";
import type { SessionKey } from "../sessions/key.js";
import { identify, identifyStored, type KeyIdentity } from "../sessions/key-scheme.js";
import type { SessionRow } from "../sessions/session.js";
import { type Caller, requireScope } from "./caller.js";

export interface CanonicalKey {
  readonly key: SessionKey;
  readonly identity: KeyIdentity;
  readonly scope: ScopeSettings;
}

export class Keys {
  constructor(
    private readonly scopes: (scope: string) => ScopeSettings,
    private readonly providers: ReadonlySet<string>,
  ) {}

  /** @throws BrokerError FOREIGN_SCOPE, UNKNOWN_PROVIDER, MALFORMED_KEY */
  canonical(caller: Caller, message: Pick<KeyMessage, "scope" | "externalId" | "provider">): CanonicalKey {
    requireScope(caller, message.scope);
    if (!this.providers.has(message.provider)) {
      const known = [...this.providers].join(", ");
      throw new BrokerError("UNKNOWN_PROVIDER", `key.provider: ${message.provider} is not one of ${known}`);
    }
    const scope = this.scopes(message.scope);
    const parsed = identify(scope.keyScheme, message.externalId);
    if (!parsed.ok) throw new BrokerError("MALFORMED_KEY", `key.external_id: ${parsed.problem}`);
    const { identity } = parsed;
    return {
      key: { scope: message.scope, externalId: identity.storeKey, provider: message.provider },
      identity,
      scope,
    };
  }

  identityOf(row: SessionRow): KeyIdentity {
    return identifyStored(this.scopes(row.key.scope).keyScheme, row.key.externalId);
  }

  ofRow(row: SessionRow): CanonicalKey {
    return { key: row.key, identity: this.identityOf(row), scope: this.scopes(row.key.scope) };
  }
}
