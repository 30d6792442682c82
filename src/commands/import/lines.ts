import { createReadStream } from "node:fs";

/** A line, or nothing where it is longer than the limit. */
export interface Line {
  readonly number: number;
  readonly bytes?: Buffer;
}

/** The lines of a file without their ends; never holds more than one of them, and the limit, in memory. */
export async function* readLines(file: string, maxBytes: number): AsyncGenerator<Line> {
  let number = 0;
  let parts: Buffer[] = [];
  let length = 0;
  const end = (): Line => {
    number += 1;
    const line = length > maxBytes ? { number } : { number, bytes: Buffer.concat(parts) };
    parts = [];
    length = 0;
    return line;
  };
  const add = (part: Buffer) => {
    length += part.length;
    if (length > maxBytes) parts = [];
    else parts.push(part);
  };
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let from = 0;
    for (let at = chunk.indexOf(newline); at >= 0; at = chunk.indexOf(newline, from)) {
      add(chunk.subarray(from, at));
      yield end();
      from = at + 1;
    }
    add(chunk.subarray(from));
  }
  if (length > 0) yield end();
}

const newline = 0x0a;
