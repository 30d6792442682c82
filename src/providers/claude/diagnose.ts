/** Whether Claude Code can work here: found, its version, and whether it is logged in. */
import { join } from "node:path";
import { type ChildVariables, diagnoseCommandLine, firstSet, readObject } from "../cli-diagnosis.js";
import type { Diagnosis, Login } from "../diagnosis.js";
import type { RunAs } from "../run-as.js";

/** Any of them logs the CLI in, whatever its files say. */
const keyVariables = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
/** Its other services have accounts of their own. */
const serviceVariables = ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"];

/** @param environment what the CLI is given */
export function diagnoseClaude(
  executable: string,
  environment: ChildVariables,
  runAs?: RunAs,
): Promise<Diagnosis> {
  return diagnoseCommandLine({
    kind: "claude",
    executable,
    environment,
    runAs,
    install: "Install Claude Code (npm install -g @anthropic-ai/claude-code)",
    login: () => loginOf(environment, process.platform),
    logIn: (found) =>
      `Run ${found} once as the broker's user and log in, or give the broker ANTHROPIC_API_KEY.`,
    update: (found) => `Run ${found} update.`,
  });
}

/** As far as the environment and the CLI's files tell. On macOS it keeps its login in the keychain. */
export function loginOf(environment: ChildVariables, platform: NodeJS.Platform): Login {
  const variable = firstSet(environment, keyVariables);
  if (variable !== undefined) return { state: "yes", by: variable };
  const service = firstSet(environment, serviceVariables);
  if (service !== undefined) return { state: "unknown", by: service };
  const { CLAUDE_CONFIG_DIR, HOME = "/" } = environment;
  const folder = CLAUDE_CONFIG_DIR || join(HOME, ".claude");
  const places: readonly (readonly [string, string])[] = [
    [join(folder, ".credentials.json"), "claudeAiOauth"],
    [join(CLAUDE_CONFIG_DIR || HOME, ".claude.json"), "primaryApiKey"],
    [join(folder, "settings.json"), "apiKeyHelper"],
  ];
  const place = places.find(([file, field]) => Boolean(readObject(file)?.[field]));
  if (place !== undefined) return { state: "yes", by: place[0] };
  return platform === "darwin" ? { state: "unknown", by: "the keychain" } : { state: "no" };
}
