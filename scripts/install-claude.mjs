// Installs the version of Claude Code that the tests know into a directory of
// its own and prints the path of its executable:
//
//   node scripts/install-claude.mjs DIR
//
// The package's licence allows no copy of it in this repository.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const version = "2.1.329";

const folder = process.argv[2];
if (folder === undefined) {
  process.stderr.write("usage: node scripts/install-claude.mjs DIR\n");
  process.exit(2);
}
const prefix = resolve(folder);
const scope = join(prefix, "node_modules", "@anthropic-ai");
// The package itself is a launcher; the executable comes with the platform's package.
const platformPackage = join(scope, `claude-code-${platformName()}`);
const executable = join(platformPackage, process.platform === "win32" ? "claude.exe" : "claude");

if (installedVersion() !== version || !existsSync(executable)) {
  mkdirSync(prefix, { recursive: true });
  const args = ["install", "--prefix", prefix, "--no-save", "--no-package-lock", "--no-audit", "--no-fund"];
  // Its install script only links the executable into the launcher.
  execFileSync("npm", [...args, "--ignore-scripts", `@anthropic-ai/claude-code@${version}`], {
    cwd: prefix,
    stdio: ["ignore", 2, 2],
  });
}
process.stdout.write(`${executable}\n`);

function installedVersion() {
  try {
    return JSON.parse(readFileSync(join(platformPackage, "package.json"), "utf8")).version;
  } catch {
    return undefined;
  }
}

function platformName() {
  const isMusl = process.platform === "linux" && !process.report.getReport().header.glibcVersionRuntime;
  return `${process.platform}-${process.arch}${isMusl ? "-musl" : ""}`;
}
