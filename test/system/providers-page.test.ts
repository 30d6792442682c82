/** The tables of docs/providers/README.md say what is so. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { describe, expect, it } from "vitest";
import { ProviderSchema } from "../../gen/sessionbroker/config/v1/config_pb.js";
import { createProviders } from "../../src/providers/registry.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const page = readFileSync(join(root, "docs/providers/README.md"), "utf8");
const rows = page.split("\n").filter((line) => line.startsWith("| "));
const cellsOf = (row: string) =>
  row
    .split("|")
    .slice(1, -1)
    .map((cell) => cell.trim());

type Kind = MessageInitShape<typeof ProviderSchema>["kind"];
const first = ["program"];

/** As the first column calls them. */
const providers: Readonly<Record<string, { readonly kind: Kind; readonly processes?: number }>> = {
  "`claude`": { kind: { case: "claude", value: {} } },
  "`codex`": { kind: { case: "codex", value: {} } },
  "`codex`, `exec: true`": { kind: { case: "codex", value: { exec: true } } },
  "`gemini`": { kind: { case: "gemini", value: {} } },
  "`gemini`, `processes: 0`": { kind: { case: "gemini", value: {} }, processes: 0 },
  "`acp`": { kind: { case: "acp", value: { command: first } } },
  "`openai`": { kind: { case: "openai", value: { baseUrl: "http://127.0.0.1/v1" } } },
  "`command`": { kind: { case: "command", value: { first } } },
  "`command` with `resumed`": { kind: { case: "command", value: { first, resumed: first } } },
  "`echo`": { kind: { case: "echo", value: {} } },
};

describe("what each provider can do", () => {
  const [heads = [], ...table] = rows.map(cellsOf).filter((cells) => cells.length === 12);

  it("is told of each", () => {
    expect(table.map(([name]) => name)).toEqual(Object.keys(providers));
  });

  it.each(table)("is so of %s", (name, ...told) => {
    const { kind, processes } = providers[name ?? ""] ?? {};
    const config = create(ProviderSchema, {
      id: "it",
      ...(kind === undefined ? {} : { kind }),
      permissions: { ask: true },
      ...(processes === undefined ? {} : { warm: { processes } }),
    });
    const provider = createProviders([config], {}).get("it");
    if (provider === undefined) throw new Error("it is not created");
    const { capabilities, startAhead } = provider;
    const isSo: Readonly<Record<string, boolean>> = {
      ...(capabilities as unknown as Record<string, boolean>),
      ahead: startAhead !== undefined,
      permissions: capabilities.permissionRequests,
      JSON: capabilities.jsonObject,
      schema: capabilities.jsonSchema,
    };
    expect(told).toEqual(heads.slice(1).map((head) => (isSo[head] ? "yes" : "no")));
  });
});

it("each behaviour names tests, and they are there", () => {
  const behaviours = rows.map(cellsOf).filter(([, tests = ""]) => /`(?:src|test)\//.test(tests));
  expect(behaviours.length).toBeGreaterThan(0);
  const isThere = (path: string) => {
    const [before = "", after] = path.split("/*/");
    if (after === undefined) return existsSync(join(root, path));
    return readdirSync(join(root, before)).some((each) => existsSync(join(root, before, each, after)));
  };
  const named = behaviours.flatMap(([, tests = ""]) => tests.match(/(?:src|test)\/[^`]+/g) ?? []);
  expect(named.filter((path) => !isThere(path))).toEqual([]);
});
