import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { CommandSchema } from "../../../gen/sessionbroker/config/v1/config_pb.js";
import { commandProblem, fillTemplate } from "./template.js";

type Settings = MessageInitShape<typeof CommandSchema>;

describe("a template is refused", () => {
  it.each<[string, Settings, string[], RegExp]>([
    ["without a program", { first: [""] }, [], /^command\.first\[0\]: /],
    ["with a program in the agent's own directory", { first: ["./run"] }, [], /^command\.first\[0\]: /],
    ["with a program that a value chooses", { first: ["/bin/{model}"] }, ["m"], /^command\.first\[0\]: /],
    [
      "with a value that could be an option",
      { first: ["p", "{session_id}"] },
      [],
      /^command\.first\[1\]: \{session_id\} may/,
    ],
    ["with a value before the =", { first: ["p", "{model}=x"] }, ["m"], /^command\.first\[1\]: /],
    ["with a value behind a letter", { first: ["p", "-m{model}"] }, ["m"], /^command\.first\[1\]: /],
    [
      "with a value that stands before --",
      { first: ["p", "{model}", "--"] },
      ["m"],
      /^command\.first\[1\]: /,
    ],
    ["with a value in the -- itself", { first: ["p", "--{model}"] }, ["m"], /^command\.first\[1\]: /],
    [
      "with a name that there is not",
      { first: ["p", "--id={sesion_id}"] },
      [],
      /^command\.first\[1\]: \{sesion_id\} is no/,
    ],
    ["in later turns too", { first: ["p"], resumed: ["p", "{native_id}"] }, [], /^command\.resumed\[1\]: /],
    [
      "with an id that nobody has made yet",
      { first: ["p", "--id={native_id}"], jsonLines: { text: "t", nativeId: "id" } },
      [],
      /^command\.first\[1\]: .*json_lines\.native_id/,
    ],
    [
      "with an end that stands nowhere",
      { first: ["p"], jsonLines: { text: "t", endValue: "x" } },
      [],
      /^command\.json_lines\.end_value: /,
    ],
    ["with a model and none to choose from", { first: ["p", "--m={model}"] }, [], /^models: /],
    ["with a model that cannot be given", { first: ["p", "--m={model}"] }, ["ok", "a/b"], /^models\[1\]: /],
  ])("%s", (_, command, models, problem) => {
    expect(commandProblem(create(CommandSchema, command), models)).toMatch(problem);
  });

  it.each<[string, Settings, string[]]>([
    ["values after =", { first: ["p", "--m={model}", "a=b{session_id}c"] }, ["m"]],
    ["values after --", { first: ["p", "--", "{model}", "x{workspace}"] }, ["m"]],
    ["braces that are no names", { first: ["p", "{ print }", '{"a": 1}', "{}"] }, []],
    ["any model, if none is named", { first: ["p"] }, ["a/b"]],
    [
      "an id of its own in later turns",
      { first: ["p"], resumed: ["p", "-r={native_id}"], jsonLines: { text: "t", nativeId: "id" } },
      [],
    ],
  ])("unless it has %s", (_, command, models) => {
    expect(commandProblem(create(CommandSchema, command), models)).toBeUndefined();
  });
});

describe("a template is filled", () => {
  const values = { session_id: "s", model: "m", native_id: "n", workspace: "/w w" };

  it("word by word, every place of it", () => {
    expect(
      fillTemplate(["p", "--a={model}{model}", "--", "{workspace}", "{session_id}/{native_id}"], values),
    ).toEqual(["p", "--a=mm", "--", "/w w", "s/n"]);
  });

  it("and what a value holds is not filled again", () => {
    expect(() => fillTemplate(["p", "--a={model}"], { ...values, model: "{native_id}" })).toThrow(
      "none that",
    );
  });

  it.each(["", "-x", "a b", "a/b", "a\u0000", "x".repeat(129), "ä", "a\n"])("never with %j", (model) => {
    expect(() => fillTemplate(["p", "--a={model}"], { ...values, model })).toThrow("none that");
  });

  it("never with a workspace that is no absolute path, or a value that there is not", () => {
    expect(() => fillTemplate(["p", "--", "{workspace}"], { ...values, workspace: "w" })).toThrow(
      "none that",
    );
    expect(() => fillTemplate(["p", "--", "{native_id}"], { session_id: "s", workspace: "/" })).toThrow(
      "there is none",
    );
  });
});
