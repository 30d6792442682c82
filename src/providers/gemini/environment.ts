/** What the CLI is told by its environment. */
import { childEnvironment } from "../environment.js";

/** The variables of the CLI that it takes from the broker's environment. */
const inherited: readonly string[] = [
  "GEMINI_API_KEY",
  "GEMINI_MODEL",
  "GEMINI_SANDBOX",
  "GEMINI_CLI_HOME",
  "GEMINI_CLI_SYSTEM_SETTINGS_PATH",
  "GEMINI_CLI_SYSTEM_DEFAULTS_PATH",
  "GEMINI_CLI_TRUSTED_FOLDERS_PATH",
  "GOOGLE_*",
  "CLOUD_SHELL",
];

/** One process instead of two, and work in a directory that nobody has said to be trusted. */
const defaults: Readonly<Record<string, string>> = {
  GEMINI_CLI_NO_RELAUNCH: "true",
  GEMINI_CLI_TRUST_WORKSPACE: "true",
};

/**
 * The CLI's environment, without the mark.
 *
 * @param inherit further names to take from the broker's environment
 * @param configured from the configuration; wins over everything else
 */
export function geminiEnvironment(
  parent: Readonly<Record<string, string | undefined>>,
  inherit: readonly string[],
  configured: Readonly<Record<string, string>>,
): Record<string, string> {
  return childEnvironment(parent, [...inherited, ...inherit], { ...defaults, ...configured });
}
