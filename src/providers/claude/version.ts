/** Versions of the CLI that differ in what matters here. */

/** The oldest version whose results are known to name the lines that they answer. */
export const namesLinesSince = [2, 1, 329] as const;

/** The oldest version that is known to heed CLAUDE_CODE_DISABLE_FILE_MENTIONS. */
export const fileMentionsSince = [2, 1, 329] as const;
