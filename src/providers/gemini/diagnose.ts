/** Whether Gemini CLI can work here: found, its version, and whether it is logged in. */
import { join } from "node:path";
import {
  type ChildVariables,
  diagnoseCommandLine,
  firstSet,
  readObject,
  readText,
} from "../cli-diagnosis.js";
import type { Diagnosis, Login } from "../diagnosis.js";
import { asRecord, asString } from "../json.js";
import type { RunAs } from "../run-as.js";

/** @param environment what the CLI is given */
export function diagnoseGemini(
  executable: string,
  environment: ChildVariables,
  runAs?: RunAs,
): Promise<Diagnosis> {
  return diagnoseCommandLine({
    kind: "gemini",
    executable,
    environment,
    runAs,
    install: "Install Gemini CLI (npm install -g @google/gemini-cli)",
    login: () => geminiLoginOf(environment),
    logIn: (found) =>
      `Give the broker GEMINI_API_KEY, or run ${found} once as the broker's user and log in with Google.`,
    update: () => "Run npm install -g @google/gemini-cli.",
  });
}

/** As far as the environment and the CLI's files tell, in the order in which it looks. */
export function geminiLoginOf(given: ChildVariables): Login {
  const home = given.GEMINI_CLI_HOME || given.HOME || "/";
  const folder = join(home, ".gemini");
  const settingsFile = join(folder, "settings.json");
  const settings = readObject(settingsFile);
  // The CLI allows comments in it.
  if (settings === undefined && readText(settingsFile) !== undefined) {
    return { state: "unknown", by: settingsFile };
  }
  const chosen = asString(asRecord(asRecord(settings?.security)?.auth)?.selectedType);
  const environment = { ...variablesOf([join(folder, ".env"), join(home, ".env")]), ...given };
  switch (chosen ?? typeOf(environment)) {
    case "gemini-api-key": {
      const key = firstSet(environment, ["GEMINI_API_KEY"]);
      return key === undefined ? { state: "unknown", by: "the keychain" } : { state: "yes", by: key };
    }
    case "oauth-personal": {
      const file = join(folder, "oauth_creds.json");
      if (readText(file) !== undefined) return { state: "yes", by: file };
      const encrypted = environment.GEMINI_FORCE_ENCRYPTED_FILE_STORAGE === "true";
      return encrypted ? { state: "unknown", by: "the keychain" } : { state: "no" };
    }
    case "vertex-ai": {
      const key = firstSet(environment, ["GOOGLE_API_KEY"]);
      if (key !== undefined) return { state: "yes", by: key };
      const project = ["GOOGLE_CLOUD_PROJECT", "GOOGLE_CLOUD_LOCATION"];
      const isNamed = project.every((name) => (environment[name] ?? "") !== "");
      return isNamed ? { state: "unknown", by: project[0] as string } : { state: "no" };
    }
    case "gateway":
      return { state: "unknown", by: "GOOGLE_GEMINI_BASE_URL" };
    case undefined:
      return { state: "no" };
    default:
      return { state: "unknown", by: "Google Cloud" };
  }
}

/** How the CLI logs in if nothing has been chosen. */
function typeOf(environment: ChildVariables): string | undefined {
  if (environment.GOOGLE_GENAI_USE_GCA === "true") return "oauth-personal";
  if (environment.GOOGLE_GENAI_USE_VERTEXAI === "true") return "vertex-ai";
  if (environment.GOOGLE_GEMINI_BASE_URL) return "gateway";
  if (environment.GEMINI_API_KEY) return "gemini-api-key";
  const isCloud = environment.CLOUD_SHELL === "true" || environment.GEMINI_CLI_USE_COMPUTE_ADC === "true";
  return isCloud ? "compute-default-credentials" : undefined;
}

/** Of the first of the files that is there, as the CLI reads it; values without their quotes. */
function variablesOf(files: readonly string[]): ChildVariables {
  const text = files.map(readText).find((each) => each !== undefined) ?? "";
  const lines = text.matchAll(/^\s*(?:export\s+)?(\w+)\s*=\s*(["']?)(.*?)\2\s*$/gm);
  return Object.fromEntries([...lines].map(([, name = "", , value = ""]) => [name, value]));
}
