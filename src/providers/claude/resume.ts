/** Which conversation of the agent a run goes into. */
import { existsSync, realpathSync } from "node:fs";
import { join } from "node:path";
import type { NativeBinding } from "../../turns/provider.js";

export interface ConversationStart {
  readonly flag: "session-id" | "resume";
  readonly nativeId: string;
}

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** The agent takes other names too, but resumes a conversation by its title then. */
export function isNativeId(value: string): boolean {
  return uuid.test(value);
}

/**
 * A new id is given out once: the agent refuses it for ever after, even if the
 * first turn failed. So an id that may have been given out is resumed if and
 * only if the agent has a transcript of it.
 */
export function chooseStart(
  nativeId: string,
  state: NativeBinding["state"],
  hasTranscript: () => boolean,
): ConversationStart {
  const resume = state === "bound" || (state === "provisional" && hasTranscript());
  return { flag: resume ? "resume" : "session-id", nativeId };
}

/**
 * What to try after the agent said that the id is in use. Only an id that this
 * session had before is resumed: another one is somebody else's conversation.
 */
export function startAfterIdInUse(
  start: ConversationStart,
  state: NativeBinding["state"],
): ConversationStart | undefined {
  if (start.flag === "resume" || state !== "provisional") return undefined;
  return { flag: "resume", nativeId: start.nativeId };
}

/**
 * Whether the agent has a transcript of the conversation in this directory.
 * False also for a directory whose path is over 200 characters: the agent
 * shortens its name. An id that is in use shows itself then at the start.
 */
export function hasTranscript(
  environment: Readonly<Record<string, string>>,
  workspace: string,
  nativeId: string,
): boolean {
  const root = environment.CLAUDE_CONFIG_DIR || (environment.HOME && join(environment.HOME, ".claude"));
  if (!root) return false;
  try {
    const folder = realpathSync(workspace).replace(/[^a-zA-Z0-9]/g, "-");
    return existsSync(join(root, "projects", folder, `${nativeId}.jsonl`));
  } catch {
    return false;
  }
}
