#!/usr/bin/env node
/** The command line. Exit codes: 0 done, 1 failed, 2 called or configured wrongly, 3 the store is damaged. */
import { readCall } from "./commands/call.js";
import { pruneCommand, sessionCommands, turnCommands } from "./commands/definitions/administration.js";
import type { Command } from "./commands/definitions/definition.js";
import { serverCommands } from "./commands/definitions/servers.js";
import { transferCommands } from "./commands/definitions/transfer.js";
import { helpOf, overview } from "./commands/help.js";
import type { PartEnded } from "./commands/start.js";
import { version } from "./version.js";

const commands: readonly Command[] = [
  ...serverCommands,
  ...sessionCommands,
  ...turnCommands,
  pruneCommand,
  ...transferCommands,
];

async function main(words: readonly string[]): Promise<number> {
  const call = readCall(commands, words, process.env);
  switch (call.kind) {
    case "version":
      return print(`${version}\n`);
    case "help":
      return print(call.named ? call.commands.map(helpOf).join("\n\n") : overview(commands));
    case "run":
      return call.command.run(call.given);
  }
}

function print(text: string): number {
  process.stdout.write(text);
  return 0;
}

/** Errors that the message explains, by name; anything else is shown with its trace. */
const explained = new Set([
  "CommandError",
  "ConfigError",
  "DamagedStore",
  "ListenError",
  "PartEnded",
  "StoreInUse",
  "StoreUnusable",
  "UsageError",
]);
const wronglyCalled = new Set(["ConfigError", "UsageError"]);

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: unknown) => {
    const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
    // What the system says names the file.
    const isExplained = explained.has(name) || (error instanceof Error && "syscall" in error);
    const text = isExplained ? message : (stack ?? message);
    const hint = name === "UsageError" ? "; see session-broker --help" : "";
    process.stderr.write(`session-broker: ${text}${hint}\n`);
    process.exit(exitCodeOf(error, name));
  },
);

/** Of a damaged store it is one of its own: trying again helps nobody. */
function exitCodeOf(error: unknown, name: string): number {
  if (wronglyCalled.has(name)) return 2;
  const isDamage = name === "DamagedStore" || (name === "PartEnded" && (error as PartEnded).code === 3);
  return isDamage ? 3 : 1;
}
