/** The primary key of a session. */
export interface SessionKey {
  readonly scope: string;
  /** The canonical id, see key-scheme.ts. */
  readonly externalId: string;
  readonly provider: string;
}

/** One string for one key, for maps. Control characters occur in no part. */
export function keyText(key: SessionKey): string {
  return `${key.scope}\n${key.provider}\n${key.externalId}`;
}

/** The key of which `keyText` made the text. */
export function keyOfText(text: string): SessionKey {
  const [scope = "", provider = "", externalId = ""] = text.split("\n");
  return { scope, externalId, provider };
}
