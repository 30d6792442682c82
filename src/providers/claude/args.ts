/** The command line of one run. The prompt is never part of it. */
import type { ConversationStart } from "./resume.js";

export interface ClaudeArguments {
  readonly start: ConversationStart;
  /** Whether the CLI is to ask about tools that need a permission; otherwise they are denied. */
  readonly ask: boolean;
  readonly model?: string;
  /** File with what is to be appended to the system prompt. */
  readonly systemFile?: string;
  /** From the configuration; they come last, so that they win. */
  readonly extra?: readonly string[];
}

/** Tools that act later or in the background, when no turn is there to take their output. */
const toolsOutsideTurns = [
  "CronCreate",
  "CronDelete",
  "CronList",
  "Monitor",
  "RemoteTrigger",
  "ScheduleWakeup",
  "Workflow",
];

/** Tools that ask a person something else than a permission, which an allowance does not answer. */
const toolsThatAsk = ["AskUserQuestion", "EnterPlanMode", "ExitPlanMode"];

/**
 * Values are joined to their flags: a value that begins with a dash stays a
 * value, and a flag that takes several cannot swallow what follows.
 */
export function claudeArguments(options: ClaudeArguments): string[] {
  const disallowed = options.ask ? [...toolsOutsideTurns, ...toolsThatAsk] : toolsOutsideTurns;
  return [
    "--print",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    `--disallowedTools=${disallowed.join(",")}`,
    ...(options.ask
      ? ["--permission-mode=default", "--permission-prompt-tool=stdio"]
      : ["--permission-mode=dontAsk"]),
    `--${options.start.flag}=${options.start.nativeId}`,
    ...(options.model === undefined ? [] : [`--model=${options.model}`]),
    ...(options.systemFile === undefined ? [] : [`--append-system-prompt-file=${options.systemFile}`]),
    ...(options.extra ?? []),
  ];
}
