import { ApiError } from "./errors.js";

export interface ModelChoice {
  readonly provider: string;
  /** Empty: the provider's default. */
  readonly model: string;
  /** The OpenClaw agent that the model name stands for. */
  readonly agent?: string;
}

export interface ModelRules {
  /** Ids of the broker's providers. */
  readonly providers: readonly string[];
  /** What `default` and the OpenClaw names stand for. */
  readonly defaultProvider: string | undefined;
  /** From `x-session-broker-provider`: takes the place of the provider that the name says. */
  readonly provider?: string | undefined;
}

/**
 * Which provider and model a model name means:
 *
 * - `default`: the default provider and its default model;
 * - `openclaw`, `openclaw/<agent>`, `openclaw:<agent>`: the same, for that agent;
 * - `<provider>`, `<provider>/<model>`: those.
 *
 * With a provider from the header, any other name is a model of that provider.
 */
export function resolveModel(name: string, rules: ModelRules): ModelChoice {
  const openclaw = /^openclaw(?:[/:](.*))?$/i.exec(name);
  if (name === "default" || openclaw) {
    const provider = rules.provider ?? rules.defaultProvider;
    if (provider === undefined) throw unknownModel(name);
    const agent = openclaw?.[1];
    return { provider, model: "", ...(agent && agent !== "default" ? { agent } : {}) };
  }
  const slash = name.indexOf("/");
  const first = slash < 0 ? name : name.slice(0, slash);
  const rest = slash < 0 ? "" : name.slice(slash + 1);
  if (rules.providers.includes(first)) return { provider: rules.provider ?? first, model: rest };
  if (rules.provider === undefined) throw unknownModel(name);
  return { provider: rules.provider, model: name };
}

export function unknownModel(name: string): ApiError {
  return new ApiError(`no model ${JSON.stringify(name)}; GET /v1/models lists them`, {
    status: 404,
    type: "invalid_request_error",
    param: "model",
    code: "model_not_found",
    retryable: false,
  });
}
