import { describe, expect, it } from "vitest";
import { fitExchange } from "./history.js";

const room = 20;
const most = room + 32;

describe("an exchange is kept", () => {
  it.each([
    ["whole, if it fits", "u".repeat(10), "a".repeat(10), "u".repeat(10), "a".repeat(10)],
    ["with what fits of a long question", "u".repeat(90), "a".repeat(4), `${"u".repeat(13)}…`, "aaaa"],
    ["with what fits of a long answer", "u".repeat(4), "a".repeat(90), "uuuu", `${"a".repeat(13)}…`],
    ["with half of each, if both are long", "u".repeat(90), "a".repeat(90), "uuuuuuu…", "aaaaaaa…"],
    ["up to the end of a character", "ü".repeat(90), "", `${"ü".repeat(8)}…`, ""],
    ["up to the end of a wide character", "🙂".repeat(90), "aa", "🙂🙂🙂…", "aa"],
  ])("%s", (_, user, assistant, keptUser, keptAssistant) => {
    const kept = fitExchange({ user, assistant }, most);
    expect(kept).toEqual({ user: keptUser, assistant: keptAssistant });
    expect(Buffer.byteLength(kept.user + kept.assistant)).toBeLessThanOrEqual(room);
  });
});
