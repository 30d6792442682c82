import { expect, test } from "vitest";
import { codexEnvironment } from "./environment.js";

test("the agent's own variables are inherited, and those that are named, and no others", () => {
  const parent = {
    CODEX_HOME: "/codex",
    OPENAI_API_KEY: "key",
    CODEX_SANDBOX: "seatbelt",
    ANTHROPIC_API_KEY: "other",
    LOCAL_KEY: "mine",
    SESSION_BROKER_TOKEN: "secret",
  };
  expect(codexEnvironment(parent, ["LOCAL_*", "SESSION_BROKER_*"], { CODEX_HOME: "/mine" })).toEqual({
    CODEX_HOME: "/mine",
    OPENAI_API_KEY: "key",
    LOCAL_KEY: "mine",
  });
});
