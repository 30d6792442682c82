/** A model service with OpenAI's HTTP interface as an agent: one request a turn, with all that is kept. */
import { type OpenAi, OpenAi_Api } from "../../../gen/sessionbroker/config/v1/config_pb.js";
import type { Provider } from "../../turns/provider.js";
import { type CommonSettings, commonSettings, type Environment, type ProviderKind } from "../kind.js";
import { defaultOutputLimits, type OutputLimits } from "../lines.js";
import { diagnoseOpenAi } from "./diagnose.js";
import { ModelsProbe } from "./health.js";
import { runTurn } from "./run.js";
import { type Api, keyOf, type Service } from "./service.js";

export interface OpenAiOptions
  extends Pick<CommonSettings, "id" | "models" | "timeoutMs" | "silenceTimeoutMs" | "maxRunning"> {
  readonly service: Service;
  /** How long usage is waited for after the terminal record of an answer. Default 10 s. */
  readonly lingerMs?: number;
  readonly limits?: Partial<OutputLimits>;
}

const apis: Readonly<Record<OpenAi_Api, Api | undefined>> = {
  [OpenAi_Api.UNSPECIFIED]: undefined,
  [OpenAi_Api.RESPONSES]: "responses",
  [OpenAi_Api.CHAT_COMPLETIONS]: "chat",
};

export const openAiKind: ProviderKind = {
  name: "openai",
  create(config, environment) {
    if (config.kind.case !== "openai") throw new TypeError("not an openai configuration");
    return createOpenAiProvider({
      ...commonSettings(config),
      service: serviceOf(config.kind.value, environment),
    });
  },
  async diagnose(config, environment) {
    if (config.kind.case !== "openai") throw new TypeError("not an openai configuration");
    return diagnoseOpenAi(serviceOf(config.kind.value, environment), config.models);
  },
};

function serviceOf({ baseUrl, keyVariable, api }: OpenAi, environment: Environment): Service {
  return {
    baseUrl: baseUrl.replace(/\/+$/, ""),
    keyVariable: keyVariable === "" ? undefined : keyVariable,
    key: keyOf(keyVariable, environment),
    api: apis[api],
  };
}

export function createOpenAiProvider(options: OpenAiOptions): Provider {
  const closing = new AbortController();
  const probe = new ModelsProbe(options.service);
  const settings = {
    service: options.service,
    models: options.models,
    timeoutMs: options.timeoutMs,
    silenceTimeoutMs: options.silenceTimeoutMs,
    lingerMs: options.lingerMs ?? 10_000,
    limits: { ...defaultOutputLimits, ...options.limits },
    known: { api: undefined },
    closing: closing.signal,
  };
  return {
    id: options.id,
    kind: "openai",
    capabilities: {
      assignsNativeId: "broker",
      resume: false,
      interrupt: true,
      steer: false,
      warm: false,
      fork: false,
      reasoning: true,
      images: true,
      usage: true,
      cost: false,
      toolEvents: false,
      permissionRequests: false,
      jsonObject: true,
      jsonSchema: true,
    },
    models: options.models,
    timeoutMs: options.timeoutMs,
    maxRunning: options.maxRunning,
    permissionMs: 0,
    run: (turn) => runTurn(settings, turn),
    async health() {
      const { available, detail } = await probe.ask();
      return { available, detail };
    },
    release: async () => [],
    close: async () => closing.abort(),
  };
}
