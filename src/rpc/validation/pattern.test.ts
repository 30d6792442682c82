import { runInNewContext } from "node:vm";
import { type DescMessage, getOption } from "@bufbuild/protobuf";
import { field as fieldOption } from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { describe, expect, it } from "vitest";
import { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";
import { patternCheck } from "./pattern.js";

describe("a pattern that means the same in RE2 and JavaScript", () => {
  it.each([
    ["^a$", "a", "a\n"],
    ["^(a|bc)?$", "bc", "b"],
    ["^[^\\x00-\\x1f\\x{fffd}]+$", "a😀", "a\x1f"],
    ["^[^\\x00-\\x1f\\x{fffd}]+$", "\u{fffc}", "\u{fffd}"],
    ["^a{0}$|^\\.$", "", "ab"],
    ["^\\[[!-~]\\]$", "[a]", "[ ]"],
    ["^[^a]{2}$", "😀😀", "😀"],
    ["^[a.+*-]{2,3}$", "a-", "ab"],
    ["^a{2,}(/a)*$", "aaa/a/a", "a/a"],
    ["^[\\]\\-]+$", "]-", "a"],
  ])("%s takes %j, not %j", (pattern, taken, refused) => {
    const check = patternCheck(pattern);
    expect([check(taken), check(refused)]).toEqual([true, false]);
  });
});

/** RE2 reads these otherwise or refuses them, or the contract does not use them. */
it.each([
  "^.$",
  "(?i)^a$",
  "^(?:a)$",
  "^(?=a)a$",
  "^(a)\\1$",
  "^a*?$",
  "^a++$",
  "^\\pL$",
  "^[[:alpha:]]$",
  "^[]a]$",
  "^[^]a]$",
  "^\\d$",
  "^\\Qa\\E$",
  "\\Aa\\z",
  "\\ba",
  "^\\u{61}$",
  "^\\u0061$",
  "^\\141$",
  "^a{1001}$",
  "^(a{100}){100}$",
  "^a{2}{3}$",
  "^a{,2}$",
  "^a{3,2}$",
  "^[b-a]$",
  "^(a$",
  "^\\x{110000}$",
])("%s is left to protovalidate", (pattern) => {
  const check = patternCheck(pattern);
  expect(["a", "aa", "", "1", "]a", "{,2}"].filter(check)).toEqual([]);
});

/** With a pattern that takes a text in many ways, this would not come to an end. */
describe("a long text that fails at its end", () => {
  it.each([...patternsOf(SessionBroker.methods.map(({ input }) => input))])("%s", (pattern) => {
    const check = patternCheck(pattern);
    for (const part of ["a", "a/", "a.", "0-_", "*", "/*", "é", "a/a"]) {
      const text = `${part.repeat(1300)}\n`;
      expect(runInNewContext("check(text)", { check, text }, { timeout: 10_000 })).toBe(false);
    }
  });
});

/** Of the fields and items of messages, and of those inside of them. */
function patternsOf(messages: readonly DescMessage[], seen = new Set<DescMessage>()): Set<string> {
  const patterns = new Set<string>();
  for (const message of messages) {
    if (seen.has(message)) continue;
    seen.add(message);
    for (const field of message.fields) {
      const { type } = getOption(field, fieldOption);
      const inside = type.case === "repeated" ? type.value.items : undefined;
      for (const rules of [type, inside?.type]) {
        if (rules?.case === "string" && rules.value.pattern !== "") patterns.add(rules.value.pattern);
      }
      if (field.message !== undefined) {
        for (const pattern of patternsOf([field.message], seen)) patterns.add(pattern);
      }
    }
  }
  return patterns;
}
