/** What a command is called, what it takes, and how that is told. Nothing here loads what a command works with. */

export interface OptionDefinition {
  readonly type: "string" | "boolean";
  /** May be given more than once. */
  readonly multiple?: boolean;
  /** What stands for the value in the help. */
  readonly value?: string;
  /** Variable of the environment that says the same. */
  readonly environment?: string;
  /** One line, or several. */
  readonly help: string;
}

export type OptionTable = Readonly<Record<string, OptionDefinition>>;

export interface Command {
  /** One word or two, such as "sessions list". */
  readonly name: string;
  /** In order; a name in brackets may be left out. */
  readonly operands?: readonly string[];
  /** One sentence for the list of commands. */
  readonly summary: string;
  /** More, for its own help. */
  readonly details?: string;
  readonly options: OptionTable;
  /** Resolves with the exit code. */
  readonly run: (given: Given) => Promise<number>;
}

/** What a command was called with. Options may also stand in the environment. */
export class Given {
  constructor(
    private readonly values: Readonly<Record<string, unknown>>,
    private readonly options: OptionTable,
    readonly operands: readonly string[],
    readonly environment: Readonly<Record<string, string | undefined>>,
  ) {}

  text(name: string): string | undefined {
    const value = this.values[name];
    if (typeof value === "string") return value;
    const variable = this.options[name]?.environment;
    return variable === undefined ? undefined : this.environment[variable];
  }

  texts(name: string): readonly string[] {
    const value = this.values[name];
    return Array.isArray(value) ? value.map(String) : [];
  }

  /** The words of the call that give these options. */
  wordsOf(names: readonly string[]): readonly string[] {
    return names.flatMap((name) => {
      const value = this.values[name];
      const given = Array.isArray(value) ? value : value === undefined ? [] : [value];
      return given.map((each) => (each === true ? `--${name}` : `--${name}=${each}`));
    });
  }

  flag(name: string): boolean {
    return this.values[name] === true;
  }

  /** @throws UsageError unless it is a whole number from `least` on */
  count(name: string, least = 0): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const count = Number(text);
    if (!/^\d{1,10}$/.test(text) || count < least || count > 2 ** 31 - 1) {
      throw new UsageError(`--${name}: ${JSON.stringify(text)} is no whole number from ${least} on`);
    }
    return count;
  }

  /** The start of a day, UTC, in milliseconds. @throws UsageError */
  day(name: string): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const ms = /^\d{4}-\d\d-\d\d$/.test(text) ? Date.parse(text) : Number.NaN;
    // A day that its month does not have is read as one of the next month.
    if (Number.isNaN(ms) || !new Date(ms).toISOString().startsWith(text)) {
      throw new UsageError(`--${name}: ${JSON.stringify(text)} is no day such as 2026-01-31`);
    }
    return ms;
  }
}

/** The command was called wrongly. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}
