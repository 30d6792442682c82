import { type Check, unsure } from "./check.js";

/**
 * A pattern of RE2 as a check by JavaScript's own regular expressions, which
 * are many times as fast. Only what means the same in both languages is taken:
 * plain characters, `\xHH`, `\x{H}`, escaped punctuation, character classes,
 * groups, alternatives, `*`, `+`, `?`, counts below 1000, `^` and `$`.
 *
 * JavaScript goes back and tries again where RE2 reads a text once. A pattern
 * of the contract must therefore not take a text in many ways, as `(a+)*` does;
 * its test tries each of them on long texts.
 */
export function patternCheck(pattern: string): Check<string> {
  const expression = translated(pattern);
  if (expression === undefined) return unsure;
  return (text) => text.length <= longestText && !loneSurrogate.test(text) && expression.test(text);
}

/** UTF-16 units; no id of the contract is longer. */
const longestText = 4096;

/** Is no character of UTF-8, so that RE2 does not say what it matches. */
const loneSurrogate = /\p{Surrogate}/u;

function translated(pattern: string): RegExp | undefined {
  if (!sharedSyntax.test(pattern)) return undefined;
  try {
    return new RegExp(pattern.replaceAll("\\x{", "\\u{"), "u");
  } catch {
    return undefined;
  }
}

const escaped = String.raw`\\x[0-9a-fA-F]{2}|\\x\{[0-9a-fA-F]{1,6}\}|\\[\^$\\.*+?()[\]{}|/]`;
const characterClass = String.raw`\[\^?(?:${escaped}|\\-|[^\\[\]^])+\]`;
const plain = String.raw`[^\\^$.*+?()[\]{}|]`;
const repetition = String.raw`[*+?]|\{\d{1,3}(?:,\d{0,3})?\}`;
const atom = `(?:${escaped}|${characterClass}|${plain})(?:${repetition})?`;
/** Without counts: RE2 bounds the product of those within each other. */
const groupEdge = String.raw`\((?!\?)|\)[*+?]?`;
const sharedSyntax = new RegExp(`^(?:${atom}|${groupEdge}|[|^$])*$`, "u");
