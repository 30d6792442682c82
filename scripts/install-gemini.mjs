// Installs the version of Gemini CLI that the tests know into a directory of
// its own and prints the path of its executable:
//
//   node scripts/install-gemini.mjs DIR
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const version = "0.61.0";

const folder = process.argv[2];
if (folder === undefined) {
  process.stderr.write("usage: node scripts/install-gemini.mjs DIR\n");
  process.exit(2);
}
const prefix = resolve(folder);
const installed = join(prefix, "node_modules", "@google", "gemini-cli");

if (installedVersion() !== version) {
  mkdirSync(prefix, { recursive: true });
  const args = ["install", "--prefix", prefix, "--no-save", "--no-package-lock", "--no-audit", "--no-fund"];
  // The optional packages are a keyring and a terminal, which no test needs.
  execFileSync("npm", [...args, "--ignore-scripts", "--omit=optional", `@google/gemini-cli@${version}`], {
    cwd: prefix,
    stdio: ["ignore", 2, 2],
  });
}
process.stdout.write(`${join(installed, "bundle", "gemini.js")}\n`);

function installedVersion() {
  try {
    return JSON.parse(readFileSync(join(installed, "package.json"), "utf8")).version;
  } catch {
    return undefined;
  }
}
