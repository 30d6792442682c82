/** Text of a file for a terminal: what would steer the terminal, or turn the line around, is spelled out. */
export function printable(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}

/** The same of a text of several lines, whose line ends and tabs stay. */
export function printableText(text: string): string {
  return text
    .split(/(\r?\n|\t)/)
    .map((part, index) => (index % 2 === 1 ? part.replace("\r", "") : printable(part)))
    .join("");
}
