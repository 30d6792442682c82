// Installs the version of an agent that the tests know into a directory of its
// own and prints the path of its executable:
//
//   node scripts/install-agent.mjs claude|codex|gemini DIR
//
// They are no dependencies: the licence of Claude Code allows no copy of it in
// this repository, and the others are large.
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";

const isMusl = process.platform === "linux" && !process.report.getReport().header.glibcVersionRuntime;
const platform = `${process.platform}-${process.arch}`;
const suffix = process.platform === "win32" ? ".exe" : "";

/** The package itself is a launcher; the executable comes with the platform's package. */
const agents = {
  claude: {
    name: "@anthropic-ai/claude-code",
    version: "2.1.329",
    platformPackage: `claude-code-${platform}${isMusl ? "-musl" : ""}`,
    platformVersion: "2.1.329",
    executableIn: (folder) => join(folder, `claude${suffix}`),
  },
  codex: {
    name: "@openai/codex",
    version: "0.169.0",
    platformPackage: `codex-${platform}`,
    platformVersion: `0.169.0-${platform}`,
    executableIn(folder) {
      const vendor = join(folder, "vendor");
      const [target = ""] = existsSync(vendor) ? readdirSync(vendor) : [];
      return join(vendor, target, "bin", `codex${suffix}`);
    },
  },
  gemini: {
    name: "@google/gemini-cli",
    version: "0.61.0",
    platformPackage: "gemini-cli",
    platformVersion: "0.61.0",
    executableIn: (folder) => join(folder, "bundle", "gemini.js"),
    // A keyring and a terminal, which no test needs.
    without: ["--omit=optional"],
  },
};

const [, , agentName, folder] = process.argv;
const agent = Object.hasOwn(agents, agentName ?? "") ? agents[agentName] : undefined;
if (agent === undefined || folder === undefined) {
  process.stderr.write("usage: node scripts/install-agent.mjs claude|codex|gemini DIR\n");
  process.exit(2);
}
const prefix = resolve(folder);
const scope = agent.name.split("/")[0];
const platformPackage = join(prefix, "node_modules", scope, agent.platformPackage);

if (installedVersion() !== agent.platformVersion || !existsSync(agent.executableIn(platformPackage))) {
  mkdirSync(prefix, { recursive: true });
  const args = ["install", "--prefix", prefix, "--no-save", "--no-package-lock", "--no-audit", "--no-fund"];
  // An install script only links the executable into the launcher.
  execFileSync(
    "npm",
    [...args, "--ignore-scripts", ...(agent.without ?? []), `${agent.name}@${agent.version}`],
    {
      cwd: prefix,
      stdio: ["ignore", 2, 2],
    },
  );
}
process.stdout.write(`${agent.executableIn(platformPackage)}\n`);

function installedVersion() {
  try {
    return JSON.parse(readFileSync(join(platformPackage, "package.json"), "utf8")).version;
  } catch {
    return undefined;
  }
}
