import { printable } from "./printable.js";

/** A command cannot do what it was asked for; the message says why. */
export class CommandError extends Error {
  override readonly name = "CommandError";

  constructor(message: string) {
    super(printable(message));
  }
}
