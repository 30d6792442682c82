/** A Go program with connect-go and the code that its plugins generate. */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, it } from "vitest";
import type { TestBroker } from "../support/broker.js";
import { checkReport, startBroker } from "./journey.js";
import { attempt, available, cached, installMs, prepare, runClient } from "./programs.js";

const folder = fileURLToPath(new URL("go", import.meta.url));
const root = fileURLToPath(new URL("../..", import.meta.url));

/** The directory of the plugins, at the versions that go.mod names; all modules are there as well. */
const plugins = await prepare("Go", async () => {
  const version = await attempt("go", ["version"]);
  await attempt("go", ["mod", "download"], { cwd: folder });
  const pins = ["go.mod", "go.sum"].map((name) => readFileSync(join(folder, name), "utf8"));
  return cached("go", [version, ...pins], async (draft) => {
    mkdirSync(draft, { recursive: true });
    await attempt("go", ["install", "tool"], { cwd: folder, env: { GOBIN: draft } });
  });
});

describe.skipIf("missing" in plugins)("Go with connect-go", () => {
  let broker: TestBroker;
  let build: string;

  beforeAll(async () => {
    build = mkdtempSync(join(tmpdir(), "polyglot-go-"));
    cpSync(folder, build, { recursive: true });
    await generate(build, available(plugins));
    await execa("go", ["build", "-o", "client", "."], { cwd: build, env: { GOFLAGS: "-mod=readonly" } });
    broker = await startBroker();
  }, installMs);

  afterAll(async () => {
    await broker?.close();
    rmSync(build, { recursive: true, force: true });
  });

  it.each(["connect", "connect-json", "connect-h2", "grpc", "grpc-web"])(
    "takes the journey with %s",
    async (protocol) => {
      const name = `go-${protocol}`;
      const report = await runClient([join(build, "client")], broker, name, { BROKER_PROTOCOL: protocol });
      checkReport(report, name);
    },
  );
});

/** The proto files give no Go package of ours, and those of others are generated along with them. */
async function generate(build: string, bin: string): Promise<void> {
  const template = {
    version: "v2",
    managed: { enabled: true, override: [{ file_option: "go_package_prefix", value: "polyglot/gen" }] },
    plugins: ["protoc-gen-go", "protoc-gen-connect-go"].map((plugin) => ({
      local: join(bin, plugin),
      out: join(build, "gen"),
      opt: ["paths=source_relative"],
    })),
    inputs: [{ directory: "proto", paths: ["proto/sessionbroker/v1", "proto/buf", "proto/google"] }],
  };
  const file = join(build, "buf.gen.json");
  writeFileSync(file, JSON.stringify(template));
  await execa(join(root, "node_modules", ".bin", "buf"), ["generate", "--template", file], { cwd: root });
}
