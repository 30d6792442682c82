/** The input holds something that the agent cannot take. */
export class InputError extends Error {
  override readonly name = "InputError";
}
