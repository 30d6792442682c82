import { expect, test } from "vitest";
import { onceArguments } from "./args.js";
import { withoutMentions } from "./once.js";

test.each([
  ["@a.txt and @b", "\\@a.txt and \\@b"],
  ["me@example.com", "me\\@example.com"],
  ["\\@already", "\\@already"],
  ["@@x", "\\@\\@x"],
  ["none", "none"],
])("%j mentions no file as %j", (text, escaped) => {
  expect(withoutMentions(text)).toBe(escaped);
});

test("values are joined to their flags, and what the configuration adds comes last", () => {
  const start = { flag: "resume", nativeId: "-x" } as const;
  expect(onceArguments({ start, allow: false, extra: ["--sandbox"] })).toEqual([
    "--output-format=stream-json",
    "--approval-mode=default",
    "--resume=-x",
    "--sandbox",
  ]);
});
