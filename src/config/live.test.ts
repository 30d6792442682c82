import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { loadSettings } from "./config.js";
import { effectiveText } from "./effective.js";
import { LiveSettings, settingsChanges } from "./live.js";
import { sha256 } from "./tokens.js";

const folder = mkdtempSync(join(tmpdir(), "config-"));

afterAll(() => rmSync(folder, { recursive: true }));

function settingsOf(text: string) {
  const config = join(folder, "broker.yaml");
  writeFileSync(config, text);
  return loadSettings({ config, data: join(folder, "data") });
}

describe("a change of the configuration", () => {
  it.each([
    ["limits: { waitingTurns: 5 }", ["limits.waiting_turns"], []],
    ["limits: { runningTurns: 5 }", [], ["limits.running_turns"]],
    [
      "limits: { diskReserveBytes: 5, connections: 9 }",
      ["limits.disk_reserve_bytes"],
      ["limits.connections"],
    ],
    ["maintenance: { archiveAfter: 60s, every: 60s }", ["maintenance.archive_after"], ["maintenance.every"]],
    ["retention: { eventsFor: 60s }", ["retention.events_for"], []],
    ["hosts: [a]", ["hosts"], []],
    ["scopes: [{ pattern: a, keyScheme: KEY_SCHEME_AGENT }]", ["scopes"], []],
    ["providers: [{ id: a, echo: {} }]", [], ["providers"]],
    ["listen: 127.0.0.1:1", [], ["listen"]],
    ["", [], []],
  ])("%s", (text, changed, needsRestart) => {
    expect(settingsChanges(settingsOf(""), settingsOf(text))).toEqual({ changed, needsRestart });
    expect(settingsChanges(settingsOf(text), settingsOf(""))).toEqual({ changed, needsRestart });
  });
});

it("what can be changed is in force at once, and the rest is told until a restart", () => {
  const live = new LiveSettings(settingsOf("hosts: [a]"));
  const { view } = live;
  const next = settingsOf(
    "{ hosts: [b], listen: 127.0.0.1:1, limits: { waitingTurns: 3, runningTurns: 3 } }",
  );
  expect(live.replace(next)).toEqual({
    changed: ["hosts", "limits.waiting_turns"],
    needsRestart: ["limits.running_turns", "listen"],
  });
  expect([view.hosts, view.limits.waitingTurns]).toEqual([["b"], 3]);
  expect([view.listen.port, view.limits.runningTurns]).toEqual([7410, 64]);
  expect(live.replace(next)).toEqual({ changed: [], needsRestart: ["limits.running_turns", "listen"] });
});

describe("the configuration in force, as a file", () => {
  it("reads as itself, with every default", () => {
    const text = effectiveText(settingsOf("scopes: [{ pattern: a/*, resetPolicy: { idle: 90s } }]"));
    expect(effectiveText(settingsOf(text))).toBe(text);
    for (const part of [
      "listen: 127.0.0.1:7410",
      "runningTurns: 64",
      "archiveAfter: 2592000s",
      "pattern: a/*",
    ])
      expect(text).toContain(part);
  });

  it("has secrets as digests only", () => {
    const secret = "hunter2-hunter2";
    const text = effectiveText(
      settingsOf(
        JSON.stringify({
          providers: [
            { id: "a", claude: { environment: { ANTHROPIC_API_KEY: secret }, arguments: ["--verbose"] } },
            { id: "b", codex: { arguments: ["-c", `providers.x.api_key=${secret}`] } },
            { id: "d", acp: { command: ["agent", `--auth-token=${secret}`], environment: { X: secret } } },
            { id: "e", command: { first: ["run", `--password=${secret}`], environment: { Y: secret } } },
          ],
        }),
      ),
    );
    expect(text).not.toContain(secret);
    expect(text.split(`sha256:${sha256(secret)}`).length - 1).toBe(6);
    for (const part of ["--verbose", "providers.x.api_key=sha256:", "- agent"]) expect(text).toContain(part);
  });
});
