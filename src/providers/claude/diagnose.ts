/** Whether Claude Code can work here: found, its version, and whether it is logged in. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Diagnosis, knownVersions, type Login, supportOf } from "../diagnosis.js";
import { locateExecutable } from "../executables.js";
import { VersionProbe } from "../version.js";

type ChildVariables = Readonly<Record<string, string>>;

/** Any of them logs the CLI in, whatever its files say. */
const keyVariables = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN"];
/** Its other services have accounts of their own. */
const serviceVariables = ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"];

/** @param environment what the CLI is given */
export async function diagnoseClaude(executable: string, environment: ChildVariables): Promise<Diagnosis> {
  const found = locateExecutable(executable, environment.PATH);
  if (found === undefined) {
    return {
      usable: false,
      problem: `There is no ${executable}.`,
      fix: "Install Claude Code (npm install -g @anthropic-ai/claude-code), or name its executable in the configuration.",
    };
  }
  const health = await new VersionProbe(found, () => environment).health();
  if (!health.available) {
    return { usable: false, found, problem: health.detail, fix: "Install Claude Code again." };
  }
  const support = supportOf(health.detail, knownVersions.claude);
  const login = loginOf(environment, process.platform);
  const told = { found, version: health.detail, support, login };
  if (login.state === "no") {
    return {
      ...told,
      usable: false,
      problem: "It is not logged in.",
      fix: `Run ${found} once as the broker's user and log in, or give the broker ANTHROPIC_API_KEY.`,
    };
  }
  if (support === "too old") {
    return {
      ...told,
      usable: true,
      problem: "The version is older than those that are tested.",
      fix: `Run ${found} update.`,
    };
  }
  return { ...told, usable: true };
}

/** As far as the environment and the CLI's files tell. On macOS it keeps its login in the keychain. */
export function loginOf(environment: ChildVariables, platform: NodeJS.Platform): Login {
  const variable = keyVariables.find((name) => (environment[name] ?? "") !== "");
  if (variable !== undefined) return { state: "yes", by: variable };
  const service = serviceVariables.find((name) => (environment[name] ?? "") !== "");
  if (service !== undefined) return { state: "unknown", by: service };
  const { CLAUDE_CONFIG_DIR, HOME = "/" } = environment;
  const folder = CLAUDE_CONFIG_DIR || join(HOME, ".claude");
  const places: readonly (readonly [string, string])[] = [
    [join(folder, ".credentials.json"), "claudeAiOauth"],
    [join(CLAUDE_CONFIG_DIR || HOME, ".claude.json"), "primaryApiKey"],
    [join(folder, "settings.json"), "apiKeyHelper"],
  ];
  const place = places.find(([file, field]) => hasField(file, field));
  if (place !== undefined) return { state: "yes", by: place[0] };
  return platform === "darwin" ? { state: "unknown", by: "the keychain" } : { state: "no" };
}

function hasField(file: string, field: string): boolean {
  try {
    const value: unknown = JSON.parse(readFileSync(file, "utf8"));
    return typeof value === "object" && value !== null && Boolean((value as Record<string, unknown>)[field]);
  } catch {
    return false;
  }
}
