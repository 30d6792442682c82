/** What a command says. */
import type { Writable } from "node:stream";
import { type DescMessage, type MessageShape, toJsonString } from "@bufbuild/protobuf";
import { CommandError } from "./command-error.js";

/** Resolves once it is written. @throws CommandError */
export async function writeText(text: string, out: Writable = process.stdout): Promise<void> {
  // The write that fails says so itself.
  if (!out.listeners("error").includes(ignore)) out.on("error", ignore);
  await new Promise<void>((resolve, reject) => {
    out.write(text, (error) => (error ? reject(error) : resolve()));
  }).catch((error: Error) => {
    throw new CommandError(`the output cannot be written: ${error.message}`);
  });
}

export function writeLines(lines: readonly string[]): Promise<void> {
  return lines.length === 0 ? Promise.resolve() : writeText(`${lines.join("\n")}\n`);
}

/** For programs: every field, also those that are empty. */
export function jsonLine<D extends DescMessage>(schema: D, message: MessageShape<D>): string {
  return toJsonString(schema, message, { alwaysEmitImplicit: true });
}

function ignore(): void {}
