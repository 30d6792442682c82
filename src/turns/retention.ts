/** How long the events of turns are kept after their end, and how many of them. */
export interface RetentionSettings {
  /** Since the end of their turn; 0: without limit. */
  readonly eventsForMs: number;
  /** Bytes on disk, of all ended turns; 0: without limit. */
  readonly eventsBytes: number;
}

/**
 * How many of its bytes each grant may keep. Nobody has to give anything up for
 * what others hold as long as it holds no more than an equal share; what a grant
 * leaves of its share, the others divide equally.
 */
export function allowances(
  heldBytes: ReadonlyMap<string, number>,
  budgetBytes: number,
): ReadonlyMap<string, number> {
  const allowed = new Map<string, number>();
  let left = budgetBytes;
  for (const [grant, held] of [...heldBytes].sort(([, a], [, b]) => a - b)) {
    const share = Math.floor(left / (heldBytes.size - allowed.size));
    allowed.set(grant, Math.min(held, share));
    left -= Math.min(held, share);
  }
  return allowed;
}

/** A turn that has ended and whose events are kept. */
export interface KeptTurn {
  readonly turnNo: number;
  readonly endedAtMs: number;
  readonly bytes: number;
}

/** Turn numbers, in the order in which they are to go. */
export interface Evicted {
  readonly unread: readonly number[];
  /** Turns with readers go only when nobody reads any of the others. */
  readonly read: readonly number[];
}

/** Which turns of one grant have to go, given from the first to have ended to the last. */
export function chooseEvicted(
  kept: Iterable<KeptTurn>,
  rule: {
    /** Those that ended then or before. */
    readonly endedByMs: number;
    /** And as many as hold these bytes. */
    readonly overBytes: number;
    readonly reading: ReadonlySet<number>;
    /** Turns to choose at most. */
    readonly limit: number;
  },
): Evicted {
  const unread: number[] = [];
  const reading: KeptTurn[] = [];
  let over = rule.overBytes;
  for (const turn of kept) {
    if ((turn.endedAtMs > rule.endedByMs && over <= 0) || unread.length >= rule.limit) break;
    if (rule.reading.has(turn.turnNo)) {
      reading.push(turn);
      continue;
    }
    unread.push(turn.turnNo);
    over -= turn.bytes;
  }
  const read: number[] = [];
  for (const turn of reading) {
    if ((turn.endedAtMs > rule.endedByMs && over <= 0) || read.length >= rule.limit) break;
    read.push(turn.turnNo);
    over -= turn.bytes;
  }
  return { unread, read };
}
