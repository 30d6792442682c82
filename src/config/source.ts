/** The configuration file: what it says, and where in it something is wrong. */
import { readFileSync } from "node:fs";
import { create, type DescField, type DescMessage, fromJson, type JsonValue } from "@bufbuild/protobuf";
import type { Path } from "@bufbuild/protobuf/reflect";
import { createValidator } from "@bufbuild/protovalidate";
import { type Document, isNode, LineCounter, parseDocument } from "yaml";
import {
  type Config,
  ConfigSchema,
  Tls_ClientCertificates,
} from "../../gen/sessionbroker/config/v1/config_pb.js";
import { providerProblem } from "../providers/problems.js";
import { isTimeZone } from "../sessions/freshness.js";

/** Names and indexes from the top of the file to a value. */
type Place = readonly (string | number)[];

interface Problem {
  readonly place: Place;
  readonly message: string;
}

/** A setting that cannot be used; the message names it. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

/** @throws ConfigError with a line for each problem: file, line, column, field and what is wrong */
export function readConfig(file: string): Config {
  const text = readText(file);
  try {
    return readSettings(file, text);
  } catch (error) {
    if (error instanceof RangeError) throw new ConfigError(`${file}: it is nested too deeply`);
    // An alias of nothing, or of too much.
    if (error instanceof ReferenceError) throw new ConfigError(`${file}: ${error.message}`);
    throw error;
  }
}

function readSettings(file: string, text: string): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const [broken] = document.errors;
  if (broken !== undefined)
    throw new ConfigError(`${file}: ${broken.message.split("\n")[0]?.replace(/:$/, "")}`);
  const found = problemsOf(document);
  if ("config" in found) return found.config;
  throw new ConfigError(found.problems.map((problem) => textOf(file, document, lines, problem)).join("\n"));
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError(`the configuration ${file} cannot be read: ${(error as Error).message}`);
  }
}

function problemsOf(
  document: Document,
): { readonly config: Config } | { readonly problems: readonly Problem[] } {
  const json = (document.toJS() ?? {}) as JsonValue;
  if (typeof json !== "object" || Array.isArray(json)) {
    return { problems: [{ place: [], message: "settings are a map of names and values" }] };
  }
  const misread = readingProblems(ConfigSchema, json, []);
  if (misread.length > 0) return { problems: misread };
  const config = fromJson(ConfigSchema, json);
  const result = createValidator().validate(ConfigSchema, config);
  if (result.kind === "error") return { problems: [{ place: [], message: result.error.message }] };
  const broken =
    result.kind === "valid"
      ? ruleProblems(config)
      : result.violations.map(({ field, message }) => ({ place: placeOf(field), message }));
  return broken.length === 0 ? { config } : { problems: broken };
}

/** Names that no message has, and values of another type, each as deep in the file as it can be told. */
function readingProblems(schema: DescMessage, json: JsonValue, place: Place): Problem[] {
  const whole = problemOfReading(schema, json);
  if (whole === undefined) return [];
  // Duration and the like are written as one value.
  if (
    typeof json !== "object" ||
    json === null ||
    Array.isArray(json) ||
    schema.typeName.startsWith("google.protobuf.")
  ) {
    return [
      { place, message: isDuration(schema) ? `${JSON.stringify(json)} is no time such as 90s` : whole },
    ];
  }
  const deeper = Object.entries(json).flatMap(([name, value]): Problem[] => {
    const field = schema.fields.find((field) => field.jsonName === name || field.name === name);
    if (field === undefined) return [{ place: [...place, name], message: "there is no such setting" }];
    return fieldProblems(schema, field, value, [...place, name]);
  });
  return deeper.length > 0 ? deeper : [{ place, message: whole }];
}

function isDuration({ typeName }: DescMessage): boolean {
  return typeName === "google.protobuf.Duration";
}

function fieldProblems(schema: DescMessage, field: DescField, value: JsonValue, place: Place): Problem[] {
  if (field.fieldKind === "message") return readingProblems(field.message, value, place);
  if (field.fieldKind === "list" && field.listKind === "message" && Array.isArray(value)) {
    return value.flatMap((item, index) => readingProblems(field.message, item, [...place, index]));
  }
  const message = problemOfReading(schema, { [field.name]: value });
  return message === undefined ? [] : [{ place, message }];
}

function problemOfReading(schema: DescMessage, json: JsonValue): string | undefined {
  try {
    fromJson(schema, json);
    return undefined;
  } catch (error) {
    // Without the name of the message, which the place says.
    return (error as Error).message.replace(/^cannot (?:de|en)code .*? from JSON: /, "");
  }
}

/** What the rules of the schema cannot say. */
function ruleProblems(config: Config): Problem[] {
  const problems: Problem[] = [];
  for (const [index, provider] of config.providers.entries()) {
    const problem = providerProblem(provider);
    if (problem !== undefined) {
      const [, path = "", message = ""] = /^([^:]*): (.*)$/s.exec(problem) ?? ["", "", problem];
      problems.push({ place: ["providers", index, ...partsOf(path)], message });
    }
    if (config.providers.findIndex(({ id }) => id === provider.id) < index) {
      problems.push({
        place: ["providers", index, "id"],
        message: `another provider is called ${provider.id}`,
      });
    }
  }
  for (const [index, { tokenSha256, certificateSubject }] of config.credentials.entries()) {
    const place = ["credentials", index];
    if (tokenSha256 === "" && certificateSubject === "") {
      problems.push({ place, message: "token_sha256 or certificate_subject is needed" });
    }
    if (certificateSubject !== "" && (config.tls?.clientCa ?? "") === "") {
      const message = "certificates of clients need tls.client_ca, which says whom to believe";
      problems.push({ place: [...place, "certificate_subject"], message });
    }
  }
  const asked = config.tls?.clientCertificates ?? Tls_ClientCertificates.UNSPECIFIED;
  if (asked !== Tls_ClientCertificates.UNSPECIFIED && config.tls?.clientCa === "") {
    problems.push({ place: ["tls", "client_certificates"], message: "tls.client_ca is needed for it" });
  }
  for (const [index, { resetPolicy }] of config.scopes.entries()) {
    const timeZone = resetPolicy?.daily?.timeZone ?? "";
    if (timeZone !== "" && !isTimeZone(timeZone)) {
      const place = ["scopes", index, "reset_policy", "daily", "time_zone"];
      problems.push({ place, message: `${timeZone} is no IANA time zone` });
    }
  }
  return problems;
}

/** Of a path such as `command.first[1]`. */
function partsOf(path: string): Place {
  return [...path.matchAll(/[^.[\]]+/g)].map(([part]) => (/^\d+$/.test(part) ? Number(part) : part));
}

function placeOf(path: Path): Place {
  return path.flatMap((part): (string | number)[] => {
    if (part.kind === "list_sub") return [part.index];
    if (part.kind === "map_sub") return [String(part.key)];
    // The choice among several fields stands nowhere itself.
    return part.kind === "oneof" ? [] : [part.name];
  });
}

function textOf(file: string, document: Document, lines: LineCounter, { place, message }: Problem): string {
  const { line, col } = lines.linePos(offsetOf(document, place));
  const name = place
    .map((part) => (typeof part === "number" ? `[${part}]` : `.${part}`))
    .join("")
    .replace(/^\./, "");
  return `${file}:${line}:${col}: ${name === "" ? "" : `${name}: `}${message}`;
}

/** Where the value stands, or else what is around it. A name may be spelled in either way of protobuf's JSON. */
function offsetOf(document: Document, place: Place): number {
  let found: unknown = document.contents;
  let path: Place = [];
  for (const part of place) {
    const spellings = typeof part === "number" ? [part] : [part, camelCase(part)];
    const next = spellings
      .map((spelling) => [...path, spelling])
      .find((candidate) => document.getIn(candidate, true) !== undefined);
    if (next === undefined) break;
    path = next;
    found = document.getIn(path, true);
  }
  return isNode(found) ? (found.range?.[0] ?? 0) : 0;
}

function camelCase(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

/** What is in force where there is no file. */
export function emptyConfig(): Config {
  return create(ConfigSchema);
}
