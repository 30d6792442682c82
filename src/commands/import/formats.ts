/** The files that can be imported. */
export const formats = ["sessions", "tokenpak", "openclaw"] as const;
export type Format = (typeof formats)[number];
