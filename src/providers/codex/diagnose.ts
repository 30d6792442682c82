/** Whether Codex CLI can work here: found, its version, and whether it is logged in. */
import { join } from "node:path";
import { type ChildVariables, diagnoseCommandLine, readObject, readText } from "../cli-diagnosis.js";
import type { Diagnosis, Login } from "../diagnosis.js";
import { asRecord } from "../json.js";
import type { RunAs } from "../run-as.js";

export interface CodexLogin {
  /** What the CLI is given. */
  readonly environment: ChildVariables;
  /** Default: the broker's own user. */
  readonly runAs?: RunAs | undefined;
  /** It is run as `codex exec`, which reads CODEX_API_KEY. */
  readonly exec: boolean;
  /** Further arguments, of the configuration. */
  readonly extraArgs: readonly string[];
}

export function diagnoseCodex(executable: string, settings: CodexLogin): Promise<Diagnosis> {
  return diagnoseCommandLine({
    kind: "codex",
    executable,
    environment: settings.environment,
    runAs: settings.runAs,
    install: "Install Codex CLI (npm install -g @openai/codex)",
    login: () => codexLoginOf(settings),
    logIn: (found) =>
      `Run ${found} login as the broker's user${settings.exec ? ", or give the broker CODEX_API_KEY" : ""}.`,
    update: () => "Run npm install -g @openai/codex.",
  });
}

/** As far as the environment and the CLI's files tell. */
export function codexLoginOf({ environment, exec, extraArgs }: CodexLogin): Login {
  if (exec && (environment.CODEX_API_KEY ?? "") !== "") return { state: "yes", by: "CODEX_API_KEY" };
  const { CODEX_HOME, HOME = "/" } = environment;
  const folder = CODEX_HOME || join(HOME, ".codex");
  const config = join(folder, "config.toml");
  const settings = readText(config) ?? "";
  // A service of its own has a key of its own, or none.
  if (extraArgs.some((each) => setsProvider.test(each))) return { state: "unknown", by: "model_provider" };
  if (setsProvider.test(settings)) return { state: "unknown", by: `model_provider in ${config}` };
  const place = join(folder, "auth.json");
  const { OPENAI_API_KEY: key, tokens } = readObject(place) ?? {};
  if (key || asRecord(tokens) !== undefined) return { state: "yes", by: place };
  return /^\s*cli_auth_credentials_store\s*=\s*["'](?:keyring|auto)["']/m.test(settings)
    ? { state: "unknown", by: "the keyring" }
    : { state: "no" };
}

const setsProvider = /^\s*(?:-c\s*|--config=)?model_provider\s*=/m;
