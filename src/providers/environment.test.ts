import { expect, test } from "vitest";
import { childEnvironment } from "./environment.js";

const parent = {
  PATH: "/bin",
  HOME: "/home/user",
  LC_ALL: "C.UTF-8",
  XDG_RUNTIME_DIR: "/run/user/1",
  HTTPS_PROXY: "http://proxy",
  ANTHROPIC_API_KEY: "own key",
  OPENAI_API_KEY: "key of another provider",
  AWS_SECRET_ACCESS_KEY: "secret",
  SESSION_BROKER_TOKEN: "token",
  SESSION_BROKER_CHILD: "mark of another broker",
  NODE_OPTIONS: "--require /evil.js",
  LD_PRELOAD: "/evil.so",
  UNSET: undefined,
};

test("only the general list and the provider's own names are inherited", () => {
  expect(childEnvironment(parent, ["ANTHROPIC_*"])).toEqual({
    PATH: "/bin",
    HOME: "/home/user",
    LC_ALL: "C.UTF-8",
    XDG_RUNTIME_DIR: "/run/user/1",
    HTTPS_PROXY: "http://proxy",
    ANTHROPIC_API_KEY: "own key",
  });
});

test("extra variables win over inherited ones, and the mark is let through", () => {
  const environment = childEnvironment({ PATH: "/bin" }, [], { PATH: "/opt", SESSION_BROKER_CHILD: "s/l/x" });
  expect(environment).toEqual({ PATH: "/opt", SESSION_BROKER_CHILD: "s/l/x" });
});

test.each(["SESSION_BROKER_TOKEN", "NODE_OPTIONS", "LD_PRELOAD", "LD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES"])(
  "%s is never handed on",
  (name) => {
    expect(childEnvironment({ [name]: "x" }, [name, "*"], { [name]: "y" })).toEqual({});
  },
);
