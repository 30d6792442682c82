/** What the agents of fixtures/noting-agent.mjs have noted, and which of them are alive. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

export const notingAgent = fileURLToPath(new URL("../fixtures/noting-agent.mjs", import.meta.url));

export type AgentNote =
  | {
      readonly note: "start";
      readonly pid: number;
      readonly mark: string;
      readonly tokens: readonly string[];
    }
  | { readonly note: "met"; readonly pid: number; readonly other: number; readonly mark: string }
  | { readonly note: "end"; readonly pid: number; readonly tokens: readonly string[] };

/** What makes an agent answer in so many pieces, over so much time. */
export interface Task {
  readonly token: string;
  readonly ms: number;
  readonly deltas: number;
  /** It also starts a process that leaves its session. */
  readonly tool: boolean;
}

export function promptOf({ token, ms, deltas, tool }: Task): string {
  return `token=${token} ms=${ms} deltas=${deltas}${tool ? " tool" : ""}`;
}

export function answerTo({ token, deltas }: Task): string {
  return Array.from({ length: deltas }, (_, i) => `${token}:${i} `).join("");
}

/** One time that an agent was given a turn. */
export interface AgentRun {
  readonly pid: number;
  readonly mark: string;
  readonly tokens: readonly string[];
  /** The agent was not killed before it had done its work. */
  readonly ended: boolean;
}

export class AgentNotes {
  constructor(readonly file: string) {}

  /** The part of a configuration that lets the provider `claude` be this agent. */
  get provider(): string {
    return `
  - id: claude
    claude: { executable: ${notingAgent}, environment: { NOTES: ${this.file} } }
    maxRunning: 4`;
  }

  read(): AgentNote[] {
    if (!existsSync(this.file)) return [];
    const lines = readFileSync(this.file, "utf8").split("\n");
    return lines.filter((line) => line !== "").map((line) => JSON.parse(line));
  }

  runs(): AgentRun[] {
    const notes = this.read();
    return notes.flatMap((note, index) => {
      if (note.note !== "start") return [];
      const { pid, mark, tokens } = note;
      const ending = notes.slice(index + 1).find((later) => later.pid === pid && later.note !== "met");
      return [{ pid, mark, tokens, ended: ending?.note === "end" }];
    });
  }

  /** Processes that an agent should not have found alive. */
  encounters(): AgentNote[] {
    return this.read().filter(({ note }) => note === "met");
  }

  /** Marks of processes of these agents' broker that are alive. */
  survivors(): string[] {
    const stores = new Set(this.runs().map(({ mark }) => mark.split("/")[0]));
    return liveMarks().filter((mark) => stores.has(mark.split("/")[0]));
  }
}

/** SESSION_BROKER_CHILD of every live process of this user. */
function liveMarks(): string[] {
  const variable = "SESSION_BROKER_CHILD=";
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
        if (/^ [ZX]/.test(stat.slice(stat.lastIndexOf(")") + 1))) return [];
        const variables = readFileSync(`/proc/${pid}/environ`, "latin1").split("\0");
        const mark = variables.find((each) => each.startsWith(variable));
        return mark === undefined ? [] : [mark.slice(variable.length)];
      } catch {
        // Gone meanwhile, or another user's.
        return [];
      }
    });
}
