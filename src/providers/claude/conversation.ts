/**
 * What was written to one process of the CLI, and what it still owes.
 *
 *     open ──a result for every line──────────────────────────▶ over
 *       └─interrupt─▶ interrupted ──its answer and the results─▶ over
 *                          └──lines wait that it will run next─▶ stuck
 */

export interface Conversation {
  /** Uuids of all lines. */
  readonly written: readonly string[];
  /** Of those that no result has named yet. */
  readonly owed: readonly string[];
  readonly interrupt?: Interrupt;
}

interface Interrupt {
  readonly answered: boolean;
  /** Lines that the CLI keeps for later. */
  readonly queued: readonly string[];
}

/** What the CLI says about the lines that wait when it is interrupted; older versions say nothing. */
export interface InterruptAnswer {
  /** It will run them next. */
  readonly queued: readonly string[];
  /** It has dropped them; no result will name them. */
  readonly dropped: readonly string[];
}

/** Over: nothing is owed, so that its input may be closed. Stuck: it goes on with what nobody wants. */
export type Standing = "open" | "interrupted" | "over" | "stuck";

export function begun(uuid: string): Conversation {
  return { written: [uuid], owed: [uuid] };
}

export function standingOf({ owed, interrupt }: Conversation): Standing {
  if (interrupt === undefined) return owed.length === 0 ? "over" : "open";
  if (!interrupt.answered) return "interrupted";
  if (owed.length === 0) return "over";
  return owed.every((uuid) => interrupt.queued.includes(uuid)) ? "stuck" : "interrupted";
}

/** With one line more; undefined if it takes none any more. */
export function wrote(conversation: Conversation, uuid: string): Conversation | undefined {
  if (standingOf(conversation) !== "open") return undefined;
  const { written, owed } = conversation;
  return { written: [...written, uuid], owed: [...owed, uuid] };
}

/**
 * With the lines accounted for that a result names; undefined if it names none
 * of them and so is about something else. Older versions name nothing: there,
 * the one line that was written is meant.
 */
export function reported(
  conversation: Conversation,
  named: readonly string[] | undefined,
): Conversation | undefined {
  const { written, owed } = conversation;
  const about = named ?? (written.length === 1 ? written : []);
  if (!about.some((uuid) => written.includes(uuid))) return undefined;
  return { ...conversation, owed: owed.filter((uuid) => !about.includes(uuid)) };
}

/** After an interrupt was written, and nothing more will be; undefined if it needs none. */
export function interrupted(conversation: Conversation): Conversation | undefined {
  if (standingOf(conversation) !== "open") return undefined;
  return { ...conversation, interrupt: { answered: false, queued: [] } };
}

export function answered(conversation: Conversation, { queued, dropped }: InterruptAnswer): Conversation {
  const owed = conversation.owed.filter((uuid) => !dropped.includes(uuid));
  return { ...conversation, owed, interrupt: { answered: true, queued } };
}
