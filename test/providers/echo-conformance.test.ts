import { tmpdir } from "node:os";
import { createEchoProvider } from "../../src/providers/echo/index.js";
import { describeConformance } from "./conformance.js";

describeConformance({
  name: "the echo",
  skip: false,
  open: async () => ({
    workspace: tmpdir(),
    provider: () => createEchoProvider({ id: "echo", delayMs: 5 }),
    promptsOf: (answer) => [answer.replace(/^turn \d+: /, "")],
    remembersNothing: true,
    // Longer than a test waits for it.
    words: { hang: "and on ".repeat(10_000) },
    close: async () => {},
  }),
});
