// Packages that only a benchmark uses, installed at exact versions into a folder
// of their own: they are no dependencies of the project.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The newest that run on Node 20. */
const packages = { "better-sqlite3": "12.11.1", ioredis: "6.0.0", pg: "8.23.1" };
const folder = fileURLToPath(new URL("../../node_modules/.cache/session-broker/peers", import.meta.url));

/**
 * The package, or undefined where it cannot be installed.
 *
 * @param mayInstall default: true. better-sqlite3 takes minutes to compile.
 */
export function loadPackage(name, { mayInstall = true } = {}) {
  const version = packages[name];
  if (versionOf(name) !== version && !(mayInstall && install(name, version))) return undefined;
  try {
    return createRequire(join(folder, "package.json"))(name);
  } catch (error) {
    process.stderr.write(`${name} ${version} does not load: ${error.message}\n`);
    return undefined;
  }
}

function install(name, version) {
  process.stderr.write(`installing ${name} ${version} into ${folder}\n`);
  mkdirSync(folder, { recursive: true });
  const manifest = join(folder, "package.json");
  if (!existsSync(manifest)) writeFileSync(manifest, '{ "private": true }\n');
  const args = ["install", "--save-exact", "--no-audit", "--no-fund", `${name}@${version}`];
  const { status } = spawnSync("npm", args, { cwd: folder, stdio: ["ignore", 2, 2] });
  return status === 0;
}

function versionOf(name) {
  try {
    return JSON.parse(readFileSync(join(folder, "node_modules", name, "package.json"), "utf8")).version;
  } catch {
    return undefined;
  }
}
