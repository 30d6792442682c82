import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Tests start real servers and agents; more files at once than cores only makes them slow.
    maxWorkers: 2,
    // A second, the default, is short on a busy machine.
    expect: { poll: { timeout: 15_000 } },
  },
});
