/** What the CLI is told by its environment. */
import { childEnvironment } from "../environment.js";

/** The variables of the CLI that it takes from the broker's environment. */
const inherited: readonly string[] = [
  "CODEX_HOME",
  "CODEX_SQLITE_HOME",
  "CODEX_CA_CERTIFICATE",
  "CODEX_API_KEY",
  "OPENAI_API_KEY",
  "OPENAI_BASE_URL",
  "OPENAI_ORGANIZATION",
  "OPENAI_PROJECT",
];

/**
 * The CLI's environment, without the mark.
 *
 * @param inherit further names of inherited variables, from the configuration
 * @param configured from the configuration; wins over everything else
 */
export function codexEnvironment(
  parent: Readonly<Record<string, string | undefined>>,
  inherit: readonly string[],
  configured: Readonly<Record<string, string>>,
): Record<string, string> {
  return childEnvironment(parent, [...inherited, ...inherit], configured);
}
