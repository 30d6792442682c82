/** From the words of a call to the command that they name. */
import { parseArgs } from "node:util";
import { type Command, Given, UsageError } from "./definitions/definition.js";

export type Call =
  | { readonly kind: "version" }
  /** Of these commands; all of them if none was named. */
  | { readonly kind: "help"; readonly commands: readonly Command[]; readonly named: boolean }
  | { readonly kind: "run"; readonly command: Command; readonly given: Given };

/** Options may stand anywhere, before the command as well. @throws UsageError */
export function readCall(
  commands: readonly Command[],
  words: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Call {
  const { values, tokens } = parse(commands, words);
  if (values.version === true) return { kind: "version" };
  const positionals = tokens.filter((token) => token.kind === "positional");
  const [first, second] = positionals.map(({ value }) => value);
  const wantsHelp = values.help === true;
  if (first === undefined) {
    if (wantsHelp) return { kind: "help", commands, named: false };
    throw new UsageError("a command is needed");
  }
  const group = commands.filter(({ name }) => name.startsWith(`${first} `));
  const command = commands.find(({ name }) => name === first || name === `${first} ${second}`);
  if (command === undefined) {
    if (group.length === 0) throw new UsageError(`there is no command ${JSON.stringify(first)}`);
    if (wantsHelp && second === undefined) return { kind: "help", commands: group, named: true };
    const known = group.map(({ name }) => name.slice(first.length + 1)).join(", ");
    const what = second === undefined ? "" : ` there is no ${JSON.stringify(second)};`;
    throw new UsageError(`${first}:${what} it is one of ${known}`);
  }
  if (wantsHelp) return { kind: "help", commands: [command], named: true };
  const nameWords = command.name.split(" ").length;
  const operands = positionals.slice(nameWords).map(({ value }) => value);
  checkOperands(command, operands);
  for (const name of Object.keys(values)) {
    if (!(name in command.options)) throw new UsageError(`${command.name} has no option --${name}`);
  }
  return { kind: "run", command, given: new Given(values, command.options, operands, environment) };
}

function parse(commands: readonly Command[], words: readonly string[]) {
  // An option has one type, whichever command has it.
  const known = Object.assign({}, ...commands.map(({ options }) => options)) as Command["options"];
  const options = Object.fromEntries(
    Object.entries(known).map(([name, { type, multiple = false }]) => [name, { type, multiple }]),
  );
  try {
    return parseArgs({
      args: [...words],
      options: { ...options, help: { type: "boolean", short: "h" }, version: { type: "boolean" } },
      allowPositionals: true,
      tokens: true,
    });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

function checkOperands({ name, operands = [] }: Command, given: readonly string[]): void {
  const missing = operands.find((operand, index) => given[index] === undefined && !operand.startsWith("["));
  if (missing !== undefined) throw new UsageError(`${name} needs ${missing}`);
  const extra = given[operands.length];
  if (extra !== undefined) throw new UsageError(`unexpected ${JSON.stringify(extra)}`);
}
