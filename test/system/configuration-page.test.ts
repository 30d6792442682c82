/** docs/configuration.md: the list of settings, and the file that it shows. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { expect, it } from "vitest";

const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
const script = fileURLToPath(new URL("../../scripts/configuration-page.mjs", import.meta.url));
const page = readFileSync(new URL("../../docs/configuration.md", import.meta.url), "utf8");

it("lists every setting as the schema describes it", async () => {
  const { exitCode, stderr } = await execa(process.execPath, [script, "--check"], { reject: false });
  expect([exitCode, stderr]).toEqual([0, ""]);
});

it("shows a file that can be used", async () => {
  const folder = mkdtempSync(join(tmpdir(), "page-"));
  try {
    const file = join(folder, "broker.yaml");
    writeFileSync(file, /```yaml\n(.*?)```/s.exec(page)?.[1] ?? "");
    const { exitCode, stderr } = await execa(process.execPath, [main, "check", "--config", file], {
      cwd: folder,
      reject: false,
    });
    expect([exitCode, stderr]).toEqual([0, ""]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
