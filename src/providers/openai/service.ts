/** The service as it is configured: where it is, its key, and which of the two interfaces it has. */
import type { OpenAi } from "../../../gen/sessionbroker/config/v1/config_pb.js";
import type { Environment } from "../kind.js";

export type Api = "responses" | "chat";

export interface Service {
  /** Without a slash at the end. */
  readonly baseUrl: string;
  /** Name of the variable that holds the key; undefined: none is sent. */
  readonly keyVariable: string | undefined;
  readonly key: string | undefined;
  /** Undefined: that is found out. */
  readonly api: Api | undefined;
}

/** What is wrong with the settings, beginning with the field. */
export function openAiProblem({ baseUrl }: OpenAi): string | undefined {
  const url = URL.canParse(baseUrl) ? new URL(baseUrl) : undefined;
  if (url?.protocol !== "http:" && url?.protocol !== "https:")
    return "openai.base_url: it is to begin with http:// or https://";
  if (url.username !== "" || url.password !== "")
    return "openai.base_url: it may hold no password; key_variable names one";
  if (url.search !== "" || url.hash !== "") return "openai.base_url: it may hold no query and no fragment";
  return undefined;
}

/** The key's surroundings are cut off: files of environments often end with a line break. */
export function keyOf(variable: string, environment: Environment): string | undefined {
  const key = variable === "" ? "" : (environment[variable]?.trim() ?? "");
  return /^[\x21-\x7e]+$/.test(key) ? key : undefined;
}

export function headersOf({ key }: Service): Readonly<Record<string, string>> {
  return { ...(key === undefined ? {} : { authorization: `Bearer ${key}` }), "user-agent": "session-broker" };
}

/** A text of the service, which may repeat what it was sent. */
export function withoutKey(text: string, { key }: Pick<Service, "key">): string {
  return key === undefined ? text : text.replaceAll(key, "***");
}
