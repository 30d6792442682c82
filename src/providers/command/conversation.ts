/** Which conversation of the program a turn is in, and by which template it is started. */
import type { NativeBinding } from "../../turns/provider.js";

export interface Conversation {
  readonly template: "first" | "resumed";
  /** Absent: the program names it. */
  readonly nativeId?: string;
}

/** What the configuration makes of the program. */
export interface Memory {
  /** It can be told to go on with a conversation. */
  readonly resumes: boolean;
  /** It names its conversations; otherwise the broker does. */
  readonly namesConversations: boolean;
}

/**
 * A conversation goes on where it is known to have begun. An id that the broker
 * made for a turn that did not succeed may be known to the program or not, so
 * that the conversation begins again under another one.
 */
export function chooseConversation(
  { state, nativeId }: NativeBinding,
  { resumes, namesConversations }: Memory,
  newId: () => string,
): Conversation {
  if (resumes && nativeId !== undefined && (state === "bound" || (namesConversations && state !== "fresh"))) {
    return { template: "resumed", nativeId };
  }
  if (namesConversations) return { template: "first" };
  const isUnused = state === "fresh" || !resumes;
  return { template: "first", nativeId: isUnused && nativeId !== undefined ? nativeId : newId() };
}
