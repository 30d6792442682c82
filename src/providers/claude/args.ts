/** The command line of one run. The prompt is never part of it. */
import type { ConversationStart } from "./resume.js";

export interface ClaudeArguments {
  readonly start: ConversationStart;
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

/**
 * Values are joined to their flags: a value that begins with a dash stays a
 * value, and a flag that takes several cannot swallow what follows.
 */
export function claudeArguments(options: ClaudeArguments): string[] {
  return [
    "--print",
    "--input-format=stream-json",
    "--output-format=stream-json",
    "--verbose",
    "--include-partial-messages",
    `--disallowedTools=${toolsOutsideTurns.join(",")}`,
    "--permission-mode=dontAsk",
    `--${options.start.flag}=${options.start.nativeId}`,
    ...(options.model === undefined ? [] : [`--model=${options.model}`]),
    ...(options.systemFile === undefined ? [] : [`--append-system-prompt-file=${options.systemFile}`]),
    ...(options.extra ?? []),
  ];
}
