/** `session-broker doctor`: whether the providers of the configuration can work here. Asks no model. */
import type { Settings } from "../config/config.js";
import type { Diagnosis } from "../providers/diagnosis.js";
import { type DiagnosedProvider, diagnoseProviders } from "../providers/registry.js";
import { printable } from "./printable.js";

/** Kinds that start no process. */
const inProcess: ReadonlySet<string> = new Set(["echo", "openai"]);

/** The exit code: 1 if the default provider cannot work. */
export async function doctor(
  settings: Pick<Settings, "providers">,
  environment: Readonly<Record<string, string | undefined>>,
  json: boolean,
): Promise<number> {
  const found = await diagnoseProviders(settings.providers, environment);
  const lines = found.flatMap((provider, index) =>
    json
      ? [
          JSON.stringify({
            id: provider.id,
            kind: provider.kind,
            default: index === 0,
            ...(provider.runAs === undefined ? {} : { runAs: provider.runAs }),
            ...provider.diagnosis,
          }),
        ]
      : linesOf(provider, index === 0),
  );
  if (!json && settings.providers.length === 0 && found.length === 1) {
    lines.push("No agent is configured, and none was found on the PATH.");
  }
  const sharing = found.filter(({ kind, runAs }) => runAs === undefined && !inProcess.has(kind));
  if (!json && sharing.length > 0) {
    const ids = sharing.map(({ id }) => id).join(", ");
    lines.push(`The agents of ${ids} run as the broker's own user and can read its tokens; see run_as.`);
  }
  process.stdout.write(lines.map((line) => `${line}\n`).join(""));
  return found[0]?.diagnosis.usable === false ? 1 : 0;
}

export function linesOf({ id, kind, runAs, diagnosis }: DiagnosedProvider, isDefault: boolean): string[] {
  const { usable, problem, fix } = diagnosis;
  const state = usable ? (problem === undefined ? "ok" : "look") : "bad";
  const name = [id, ...(kind === id ? [] : [`(${kind})`]), ...(isDefault ? ["[default]"] : [])].join(" ");
  const facts = [...factsOf(diagnosis), ...(runAs === undefined ? [] : [`as ${runAs}`])];
  const indent = " ".repeat(6);
  return [
    `${state.padEnd(6)}${name}${facts.length === 0 ? "" : `: ${facts.join("; ")}`}`,
    ...(problem === undefined ? [] : [`${indent}${problem}`]),
    ...(fix === undefined ? [] : [`${indent}→ ${fix}`]),
  ].map(printable);
}

function factsOf({ found, version, support, login }: Diagnosis): string[] {
  const facts: string[] = [];
  if (found !== undefined) facts.push(found);
  const isKnown = support !== undefined && support !== "unknown";
  if (version !== undefined) facts.push(isKnown ? `${version}, ${support}` : version);
  if (login !== undefined) {
    const words = { yes: "logged in", no: "not logged in", unknown: "login not known" }[login.state];
    facts.push(login.by === undefined ? words : `${words} (${login.by})`);
  }
  return facts;
}
