/** Whether a model service can be asked: the key, an answer to `GET /models`, and the models that are named. */
import type { Diagnosis } from "../diagnosis.js";
import { type ModelList, ModelsProbe } from "./health.js";
import type { Service } from "./service.js";

export async function diagnoseOpenAi(service: Service, models: readonly string[]): Promise<Diagnosis> {
  const { key, keyVariable } = service;
  if (keyVariable !== undefined && key === undefined) {
    return {
      usable: false,
      found: service.baseUrl,
      login: { state: "no", by: keyVariable },
      problem: `The environment variable ${keyVariable} holds no key.`,
      fix: `Set ${keyVariable} where the broker is started.`,
    };
  }
  return judge(service, models, await new ModelsProbe(service).ask());
}

export function judge(
  { baseUrl, keyVariable }: Pick<Service, "baseUrl" | "keyVariable">,
  models: readonly string[],
  list: ModelList,
): Diagnosis {
  if (!list.available) {
    const isRefused = list.status === 401 || list.status === 403;
    return {
      usable: false,
      // A service that refuses is there.
      ...(list.status === undefined ? {} : { found: baseUrl }),
      ...(isRefused ? { login: { state: "no" as const, ...byOf(keyVariable) } } : {}),
      problem: list.detail,
      fix: isRefused
        ? keyVariable === undefined
          ? "Name the variable that holds the service's key as key_variable."
          : `Give ${keyVariable} a key that the service takes.`
        : "Start the service, or correct base_url.",
    };
  }
  const login = list.models === undefined ? "unknown" : "yes";
  const told = {
    usable: true,
    found: baseUrl,
    ...(keyVariable === undefined ? {} : { login: { state: login, by: keyVariable } as const }),
  };
  const unknown = models.filter((model) => list.models?.includes(model) === false);
  if (unknown.length > 0) {
    const problem = `The service does not list ${unknown.join(", ")}.`;
    return {
      ...told,
      problem,
      fix: `Correct models; it lists ${list.models?.slice(0, 10).join(", ") || "none"}.`,
    };
  }
  if (models.length === 0) {
    return { ...told, problem: "No model is named.", fix: "List models, or name one with each turn." };
  }
  return told;
}

function byOf(keyVariable: string | undefined): { readonly by?: string } {
  return keyVariable === undefined ? {} : { by: keyVariable };
}
