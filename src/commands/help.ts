/** The texts of --help. */
import type { Command, OptionTable } from "./definitions/definition.js";
import { settingsOptions } from "./definitions/settings.js";

const helpColumn = 25;

/** The list of commands. */
export function overview(commands: readonly Command[]): string {
  const calls = commands.map((command) => ({ call: callOf(command), summary: command.summary }));
  const width = Math.max(...calls.map(({ call }) => call.length));
  return `Usage: session-broker <command> [options]

Keeps which chat is which agent session, and lets one turn at a time into each.

Commands (session-broker <command> --help says more)
${calls.map(({ call, summary }) => `  ${call.padEnd(width)}  ${summary}\n`).join("")}
Options of every command
${optionLines(settingsOptions)}  --version, --help

SESSION_BROKER_LOG_LEVEL is one of trace, debug, info (default), warn, error.
Exit codes: 0 done, 1 failed, 2 called or configured wrongly, 3 the store is damaged.
`;
}

/** How one command is called. */
export function helpOf(command: Command): string {
  const own = Object.entries(command.options).filter(([name]) => !(name in settingsOptions));
  const details = command.details === undefined ? "" : `\n${command.details}\n`;
  const ownLines = own.length === 0 ? "" : `\nOptions\n${optionLines(Object.fromEntries(own))}`;
  return `Usage: session-broker ${callOf(command)} [options]

${command.summary[0]?.toUpperCase()}${command.summary.slice(1)}.
${details}${ownLines}
Options of every command
${optionLines(settingsOptions)}`;
}

function callOf({ name, operands = [] }: Command): string {
  return [name, ...operands].join(" ");
}

function optionLines(options: OptionTable): string {
  return Object.entries(options)
    .map(([name, { value, help, environment }]) => {
      const flag = `  --${name}${value === undefined ? "" : ` ${value}`}`;
      const lines = [...help.split("\n"), ...(environment === undefined ? [] : [`(${environment})`])];
      const isLong = flag.length > helpColumn - 2;
      const [first = "", ...rest] = lines;
      const head = isLong
        ? [flag, `${" ".repeat(helpColumn)}${first}`]
        : [`${flag.padEnd(helpColumn)}${first}`];
      return [...head, ...rest.map((line) => `${" ".repeat(helpColumn)}${line}`)]
        .map((line) => `${line}\n`)
        .join("");
    })
    .join("");
}
