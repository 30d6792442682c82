import { expect, test } from "vitest";
import { chooseModel, currentModel } from "./model.js";

const grouped = [{ group: "g", name: "G", options: [{ value: "large", name: "Large" }] }];
const config = {
  configOptions: [
    { id: "mode", category: "mode", type: "select", currentValue: "ask", options: [] },
    { id: "m", category: "model", type: "select", currentValue: "small", options: grouped },
  ],
};
const models = {
  models: { currentModelId: "small", availableModels: [{ modelId: "large", name: "Large" }] },
};

test.each([
  ["a listed one by option", config, "large", false, "session/set_config_option"],
  ["a listed one", models, "large", false, "session/set_model"],
  ["another one", models, "huge", false, undefined],
  ["another one by option", config, "huge", false, undefined],
  ["another one that the configuration names", models, "huge", true, "session/set_model"],
  ["any, of an agent that offers none", {}, "large", true, undefined],
] as const)("%s", (_, opened, model, trusted, method) => {
  expect(chooseModel(opened, model, trusted)?.method).toBe(method);
});

test("the current one", () => {
  expect([config, models, {}].map(currentModel)).toEqual(["small", "small", undefined]);
});
