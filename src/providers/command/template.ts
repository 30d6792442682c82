/**
 * The command line of a program, from a template: an argument a word, and no
 * shell. A value stands only where no program takes it for an option of its
 * own: after `=` in its argument, or in an argument after `--`.
 */
import { isAbsolute } from "node:path";
import type { Command, Provider as ProviderConfig } from "../../../gen/sessionbroker/config/v1/config_pb.js";
import { InputError } from "../input-error.js";

/** What a template may name. `workspace` is a directory that the broker has chosen, never a caller. */
export interface TemplateValues {
  readonly native_id?: string;
  readonly session_id: string;
  readonly model?: string;
  /** Absolute path. */
  readonly workspace: string;
}

type Name = keyof TemplateValues;

const names: readonly Name[] = ["native_id", "session_id", "model", "workspace"];
const placeholder = /\{([A-Za-z0-9_]+)\}/g;
const safeValue = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;

/** The executable and its arguments. Throws InputError if a value may not be given to a program. */
export function fillTemplate(template: readonly string[], values: TemplateValues): string[] {
  return template.map((word) => word.replace(placeholder, (_, name: Name) => wordOf(name, values)));
}

function wordOf(name: Name, values: TemplateValues): string {
  const value = values[name];
  if (value === undefined) throw new InputError(`The program is to be given a ${name}, and there is none.`);
  const isSafe = name === "workspace" ? isAbsolute(value) : safeValue.test(value);
  if (!isSafe) {
    throw new InputError(`The ${name} ${JSON.stringify(value)} is none that a program can be given.`);
  }
  return value;
}

/** The first thing that is wrong with the settings of a program, beginning with the field's path. */
export function commandProblem(command: Command, models: ProviderConfig["models"]): string | undefined {
  const problem = problemWithin(command);
  return problem === undefined ? modelProblem(command, models) : `command.${problem}`;
}

function problemWithin(command: Command): string | undefined {
  const { first, resumed, jsonLines } = command;
  const problem = templateProblem("first", first) ?? templateProblem("resumed", resumed);
  if (problem !== undefined) return problem;
  const idAt = first.findIndex((word) => namesIn(word).includes("native_id"));
  if (idAt >= 0 && jsonLines !== undefined && jsonLines.nativeId !== "") {
    return `first[${idAt}]: there is no {native_id} yet, since the program names it at json_lines.native_id`;
  }
  if (jsonLines !== undefined && jsonLines.endValue !== "" && jsonLines.end === "") {
    return "json_lines.end_value: json_lines.end has to say where it stands";
  }
  return undefined;
}

function modelProblem({ first, resumed }: Command, models: readonly string[]): string | undefined {
  if (![...first, ...resumed].some((word) => namesIn(word).includes("model"))) return undefined;
  if (models.length === 0) return "models: a template names {model}, so that there must be one";
  const model = models.findIndex((name) => !safeValue.test(name));
  return model < 0
    ? undefined
    : `models[${model}]: ${JSON.stringify(models[model])} is none that a program can be given`;
}

function templateProblem(field: "first" | "resumed", template: readonly string[]): string | undefined {
  const [executable] = template;
  if (executable === undefined) return undefined;
  if (executable === "" || (executable.includes("/") && !isAbsolute(executable))) {
    return `${field}[0]: it is to be the name of a program on the PATH or an absolute path`;
  }
  if (placeholder.test(executable))
    return `${field}[0]: the program itself cannot be chosen by a placeholder`;
  const separator = template.indexOf("--");
  for (const [index, word] of template.entries()) {
    const isPlain = separator > 0 && index > separator;
    for (const match of word.matchAll(placeholder)) {
      const [text, name] = match;
      if (!names.some((known) => known === name)) {
        return `${field}[${index}]: ${text} is no placeholder; there are ${names.map((known) => `{${known}}`).join(", ")}`;
      }
      if (!isPlain && !word.slice(0, match.index).includes("=")) {
        return `${field}[${index}]: ${text} may stand only after "=", or in an argument after "--"`;
      }
    }
  }
  return undefined;
}

function namesIn(word: string): string[] {
  return [...word.matchAll(placeholder)].map(([, name]) => name ?? "");
}
