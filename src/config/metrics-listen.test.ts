import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, expect, it } from "vitest";
import { loadSettings } from "./config.js";

const folder = mkdtempSync(join(tmpdir(), "config-"));

afterAll(() => rmSync(folder, { recursive: true }));

it.each([
  ["", undefined, { host: "127.0.0.1", port: 7412 }],
  ["metricsListen: '[::1]:9100'", undefined, { host: "::1", port: 9100 }],
  ["metricsListen: off", undefined, undefined],
  ["metricsListen: ''", undefined, undefined],
  ["metricsListen: off", "127.0.0.1:9100", { host: "127.0.0.1", port: 9100 }],
  ["metricsListen: 127.0.0.1:9100", "off", undefined],
  ["", "", undefined],
])("%j in the file and %j beside it: %j", (text, metricsListen, expected) => {
  const config = join(folder, "broker.yaml");
  writeFileSync(config, text);
  expect(loadSettings({ config, metricsListen }).metricsListen).toEqual(expected);
});
