/** Telling the processes of one conversation's commands from those of the others in an app server. */
import { readFileSync } from "node:fs";

/** Codex says in the environment of each command which conversation it is of. */
const threadVariable = "CODEX_THREAD_ID";

/** Whether a process was started by a command of the conversation; false if it cannot be told. */
export function isCommandOf(threadId: string): (pid: number) => boolean {
  const entry = `${threadVariable}=${threadId}`;
  return (pid) => {
    try {
      return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(entry);
    } catch {
      return false;
    }
  };
}
