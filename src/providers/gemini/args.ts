/** The command lines. The prompt is never part of them. */

export interface OnceArguments {
  readonly start: ConversationStart;
  readonly model?: string;
  /** Whether tools that need a permission may be used; otherwise the model is not offered them. */
  readonly allow: boolean;
  /** From the configuration; they come last, so that they win. */
  readonly extra: readonly string[];
}

export interface ConversationStart {
  readonly flag: "session-id" | "resume";
  readonly nativeId: string;
}

/** Values are joined to their flags: a value that begins with a dash stays a value. */
export function onceArguments({ start, model, allow, extra }: OnceArguments): string[] {
  return [
    "--output-format=stream-json",
    `--approval-mode=${allow ? "yolo" : "default"}`,
    `--${start.flag}=${start.nativeId}`,
    ...(model === undefined ? [] : [`--model=${model}`]),
    ...extra,
  ];
}

/** @param model that conversations begin with */
export function warmArguments(model: string | undefined, extra: readonly string[]): string[] {
  return ["--acp", ...(model === undefined ? [] : [`--model=${model}`]), ...extra];
}
