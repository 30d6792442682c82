import { expect, it } from "vitest";
import { judge } from "./diagnose.js";

const service = { baseUrl: "http://127.0.0.1/v1", keyVariable: "KEY" };
const available = { available: true, detail: "" };

it.each([
  [
    "lists its models",
    ["a"],
    { ...available, models: ["a", "b"] },
    { usable: true, login: { state: "yes", by: "KEY" } },
  ],
  ["has no list", ["a"], available, { usable: true, login: { state: "unknown", by: "KEY" } }],
  [
    "lists others",
    ["a"],
    { ...available, models: ["b"] },
    { usable: true, problem: "The service does not list a." },
  ],
  [
    "is to be asked for no model",
    [],
    { ...available, models: ["b"] },
    { usable: true, problem: "No model is named." },
  ],
  [
    "takes another key",
    ["a"],
    { available: false, detail: "401: no", status: 401 },
    {
      usable: false,
      login: { state: "no", by: "KEY" },
      problem: "401: no",
      fix: "Give KEY a key that the service takes.",
    },
  ],
  [
    "fails",
    ["a"],
    { available: false, detail: "500", status: 500 },
    { usable: false, found: service.baseUrl },
  ],
  [
    "is not there",
    ["a"],
    { available: false, detail: "refused" },
    { usable: false, fix: "Start the service, or correct base_url." },
  ],
])("a service that %s", (_, models, list, expected) => {
  expect(judge(service, models, list)).toMatchObject(expected);
});

it("that wants a key and was given none is told how to give it one", () => {
  const list = { available: false, detail: "401: no", status: 401 };
  const { fix } = judge({ ...service, keyVariable: undefined }, [], list);
  expect(fix).toContain("key_variable");
});
