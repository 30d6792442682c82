/** Which model a conversation is to use, as far as the agent lets one choose. */
import { asList, asRecord, asString, type JsonRecord } from "../json.js";

export interface ModelChoice {
  readonly method: "session/set_model" | "session/set_config_option";
  readonly params: JsonRecord;
}

/**
 * How to tell the agent to use the model; undefined if it cannot be told, or
 * does not have this one.
 *
 * @param opened what the agent answered when the conversation was opened: a
 *   configuration option of the category `model`, or the older `models`
 * @param trusted the configuration names the model, so that it need not be listed
 */
export function chooseModel(opened: JsonRecord, model: string, trusted: boolean): ModelChoice | undefined {
  const option = asList(opened.configOptions)
    .map((each) => asRecord(each) ?? {})
    .find(({ category, id }) => category === "model" || id === "model");
  if (option !== undefined) {
    const known = asList(option.options).flatMap((each) => [each, ...asList(asRecord(each)?.options)]);
    if (!trusted && !known.some((each) => asRecord(each)?.value === model)) return undefined;
    return { method: "session/set_config_option", params: { configId: option.id, value: model } };
  }
  const models = asRecord(opened.models);
  if (models === undefined) return undefined;
  const known = asList(models.availableModels).map((each) => asString(asRecord(each)?.modelId));
  return trusted || known.includes(model)
    ? { method: "session/set_model", params: { modelId: model } }
    : undefined;
}

/** The model that the conversation uses so far, if the agent says it. */
export function currentModel(opened: JsonRecord): string | undefined {
  const option = asList(opened.configOptions)
    .map((each) => asRecord(each) ?? {})
    .find(({ category, id }) => category === "model" || id === "model");
  return asString(option?.currentValue) ?? asString(asRecord(opened.models)?.currentModelId);
}
