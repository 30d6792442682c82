/** From a program's output to the text of a turn. */
import type { JsonLines } from "../../../gen/sessionbroker/config/v1/config_pb.js";
import { type Failure, failureOf } from "../ending.js";
import { LineSplitter, mostAnswerBytes, OutputLimitError, type OutputLimits } from "../lines.js";

export interface OutputReader {
  /** The answer so far. */
  readonly text: string;
  /** The conversation, as the program calls it. */
  readonly nativeId: string | undefined;
  /** Whether the terminal record has come; undefined if there is to be none. */
  readonly hasEnded: boolean | undefined;
  readonly failure: Failure | undefined;
  /** The text of a chunk, which may end anywhere, within a character too. Throws OutputLimitError. */
  read(chunk: Buffer): string;
  /** The text of what is left. */
  end(): string;
}

/** All of the output is the answer. */
export class PlainText implements OutputReader {
  text = "";
  readonly nativeId = undefined;
  readonly hasEnded = undefined;
  readonly failure = undefined;
  #bytes = 0;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(private readonly mostBytes = mostAnswerBytes) {}

  read(chunk: Buffer): string {
    this.#bytes += chunk.length;
    if (this.#bytes > this.mostBytes) throw tooMuch(this.mostBytes);
    return this.#add(this.#decoder.decode(chunk, { stream: true }));
  }

  end(): string {
    return this.#add(this.#decoder.decode());
  }

  #add(text: string): string {
    this.text += text;
    return text;
  }
}

export type Paths = Pick<JsonLines, "text" | "nativeId" | "end" | "endValue" | "error">;

/**
 * One JSON record a line; other lines say nothing.
 *
 *     open ──the record of `end`──▶ ended
 *       └────the record of `error`, or another conversation──▶ failed
 *
 * Whatever comes after either is dropped.
 */
export class Records implements OutputReader {
  text = "";
  nativeId: string | undefined;
  hasEnded: boolean | undefined;
  failure: Failure | undefined;
  #bytes = 0;
  readonly #lines: LineSplitter;

  /** @param asked the conversation that the program was told to go on with, if it names conversations itself */
  constructor(
    private readonly paths: Paths,
    private readonly asked: string | undefined,
    limits?: OutputLimits,
  ) {
    this.hasEnded = paths.end === "" ? undefined : false;
    this.#lines = new LineSplitter(limits);
  }

  read(chunk: Buffer): string {
    if (this.#isOver) return "";
    return this.#lines
      .push(chunk)
      .map((line) => this.#readLine(line))
      .join("");
  }

  end(): string {
    if (this.#isOver) return "";
    return this.#lines
      .end()
      .map((line) => this.#readLine(line))
      .join("");
  }

  get #isOver(): boolean {
    return this.hasEnded === true || this.failure !== undefined;
  }

  #readLine(line: string): string {
    const record = this.#isOver ? undefined : parse(line);
    if (record === undefined) return "";
    this.failure = this.#failureIn(record) ?? this.#nameConversation(record);
    if (this.failure !== undefined) return "";
    const found = valueAt(record, this.paths.text);
    const text = typeof found === "string" ? found : "";
    this.#bytes += Buffer.byteLength(text);
    if (this.#bytes > mostAnswerBytes) throw tooMuch(mostAnswerBytes);
    this.text += text;
    if (isEnd(record, this.paths)) this.hasEnded = true;
    return text;
  }

  #failureIn(record: object): Failure | undefined {
    const { error } = this.paths;
    const found = error === "" ? undefined : valueAt(record, error);
    if (found === undefined || found === null || found === false || found === "") return undefined;
    const message = typeof found === "string" ? found : JSON.stringify(found);
    return failureOf("PROVIDER_ERROR", `The program reported a failure: ${message.slice(0, 2_000)}`);
  }

  #nameConversation(record: object): Failure | undefined {
    const found = this.paths.nativeId === "" ? undefined : valueAt(record, this.paths.nativeId);
    const named = typeof found === "number" ? String(found) : found;
    if (typeof named !== "string" || named === "") return undefined;
    const expected = this.asked ?? this.nativeId;
    if (expected !== undefined && named !== expected) {
      return failureOf("PROVIDER_ERROR", `The program did not answer in conversation ${expected}.`);
    }
    this.nativeId = named;
    return undefined;
  }
}

function isEnd(record: object, { end, endValue }: Paths): boolean {
  if (end === "") return false;
  const found = valueAt(record, end);
  if (endValue === "") return found !== undefined;
  return ["string", "number", "boolean"].includes(typeof found) && String(found) === endValue;
}

function parse(line: string): object | undefined {
  try {
    const value: unknown = JSON.parse(line);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** What stands at a path such as `message.content.0.text`. */
export function valueAt(record: object, path: string): unknown {
  let value: unknown = record;
  for (const name of path.split(".")) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, name)) return undefined;
    value = (value as Record<string, unknown>)[name];
  }
  return value;
}

function tooMuch(mostBytes: number): OutputLimitError {
  return new OutputLimitError(`more than ${mostBytes} bytes of answer`);
}
