/** What the CLI is told by its environment. */
import { childEnvironment } from "../environment.js";
import { isAtLeast } from "../version.js";
import { fileMentionsSince } from "./version.js";

/** The variables of the CLI that it takes from the broker's environment. */
const inherited: readonly string[] = [
  "ANTHROPIC_*",
  "CLAUDE_CONFIG_DIR",
  "CLAUDE_CODE_OAUTH_TOKEN",
  "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
  "CLAUDE_CODE_MAX_OUTPUT_TOKENS",
  "CLAUDE_CODE_MAX_RETRIES",
  "CLAUDE_CODE_TMPDIR",
];

/**
 * Settings that keep a message a message, and a turn from outliving itself.
 *
 * The interval, in milliseconds, is that of Bun, which the CLI is built on. Its
 * default of a second has a process that works collect all of its memory in the
 * middle of a turn; in between it collects as its memory grows.
 */
const defaults: Readonly<Record<string, string>> = {
  CLAUDE_CODE_DISABLE_FILE_MENTIONS: "1",
  CLAUDE_CODE_DISABLE_BACKGROUND_TASKS: "1",
  DISABLE_AUTOUPDATER: "1",
  BUN_GC_TIMER_INTERVAL: "10000",
};

/**
 * The CLI's environment, without the mark. An older version, such as 2.1.197,
 * sends any file that a message names as `@path` to the model; there all that
 * it attaches by itself is switched off, lists of skills included.
 *
 * @param inherit further names to take from the broker's environment
 * @param version what `--version` prints; undefined if it cannot be asked
 * @param inherit further names of inherited variables, from the configuration
 * @param configured from the configuration; wins over everything else
 */
export function claudeEnvironment(
  parent: Readonly<Record<string, string | undefined>>,
  inherit: readonly string[],
  configured: Readonly<Record<string, string>>,
  version: string | undefined,
): Record<string, string> {
  const guard = isAtLeast(version, fileMentionsSince) ? {} : { CLAUDE_CODE_DISABLE_ATTACHMENTS: "1" };
  return childEnvironment(parent, [...inherited, ...inherit], { ...defaults, ...guard, ...configured });
}
