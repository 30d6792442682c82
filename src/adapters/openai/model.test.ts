import { describe, expect, it } from "vitest";
import { resolveModel } from "./model.js";

const rules = { providers: ["claude", "echo"], defaultProvider: "claude" };

describe("resolveModel", () => {
  it.each([
    ["claude", { provider: "claude", model: "" }],
    ["claude/sonnet", { provider: "claude", model: "sonnet" }],
    ["claude/us/sonnet:1", { provider: "claude", model: "us/sonnet:1" }],
    ["echo", { provider: "echo", model: "" }],
    ["default", { provider: "claude", model: "" }],
    ["openclaw", { provider: "claude", model: "" }],
    ["openclaw/default", { provider: "claude", model: "" }],
    ["openclaw/ops", { provider: "claude", model: "", agent: "ops" }],
    ["openclaw:ops", { provider: "claude", model: "", agent: "ops" }],
  ])("%s", (name, choice) => {
    expect(resolveModel(name, rules)).toEqual(choice);
  });

  it.each([
    ["sonnet", { provider: "echo", model: "sonnet" }],
    ["vendor/sonnet", { provider: "echo", model: "vendor/sonnet" }],
    ["claude/sonnet", { provider: "echo", model: "sonnet" }],
    ["claude", { provider: "echo", model: "" }],
    ["default", { provider: "echo", model: "" }],
    ["openclaw/ops", { provider: "echo", model: "", agent: "ops" }],
  ])("%s with a provider from the header", (name, choice) => {
    expect(resolveModel(name, { ...rules, provider: "echo" })).toEqual(choice);
  });

  it.each([["gpt-5"], ["claudette"], ["Claude"], ["openclawed"], ["/x"]])("does not know %s", (name) => {
    expect(() => resolveModel(name, rules)).toThrow(
      expect.objectContaining({ init: expect.objectContaining({ status: 404, code: "model_not_found" }) }),
    );
  });

  it("has no default without providers", () => {
    expect(() => resolveModel("default", { providers: [], defaultProvider: undefined })).toThrow("no model");
  });
});
