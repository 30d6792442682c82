/**
 * Where a request goes on whose client sends its whole history with each
 * message, and names the chat as well (ruling 35). Such clients use the chat's
 * id for calls beside the chat (titles, tags), and edit, stop and regenerate.
 *
 *     the history tells no answer, and the session
 *     has given none                                 ─▶ the key's session
 *     it ends with the session's last answer         ─▶ the key's session
 *     … or with the beginning of one that was cut    ─▶ the key's session
 *     … or with the last answer of a side session    ─▶ that one, which becomes the key's
 *     anything else                                  ─▶ a new side session
 *
 * Only answers of turns that have ended count: a request is judged by what its
 * client can have seen.
 */
import { normalise } from "./history.js";

/** What the key's session has come to. */
export interface BranchFacts {
  readonly turnCount: number;
  /** The text of its last answer. */
  readonly lastAnswer?: string;
  /** What was delivered of the answer that came after it, and broke off. */
  readonly partial?: string;
  /** A session beside it has given the answer that is told last, and nobody else has. */
  readonly isSide: boolean;
}

/** @param told the last answer that the request's history tells; undefined: it tells none */
export function decideBranch(told: string | undefined, facts: BranchFacts): "current" | "side" | "new" {
  if (facts.turnCount === 0) return "current";
  // Titles and tags are asked for in one message, as is a first message that was edited.
  if (told === undefined) return facts.lastAnswer === undefined ? "current" : "new";
  const text = normalise(told);
  if (facts.lastAnswer !== undefined && normalise(facts.lastAnswer) === text) return "current";
  if (text !== "" && facts.partial !== undefined && normalise(facts.partial).startsWith(text))
    return "current";
  return facts.isSide ? "side" : "new";
}
