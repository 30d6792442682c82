import { describe, expect, it } from "vitest";
import { allSaid, exchangesOf, fitExchange, type ToldMessage, unseenMessages } from "./history.js";

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

/** u… is asked, a… is answered. */
const messages = (...texts: string[]): ToldMessage[] =>
  texts.map((text) => ({ author: text.startsWith("a") ? "assistant" : "user", text }));

describe("of what a caller tells, the agent is given", () => {
  it.each([
    ["nothing, if it goes on from the last answer", ["u1", "a1"], "a1", []],
    ["what others answered since", ["u1", "a1", "u2", "a other"], "a1", ["u2", "a other"]],
    ["nothing that it was asked itself and did not answer", ["u1", "a1", "u2"], "a1", []],
    ["nothing without an answer in it", ["u1", "u2"], "a1", []],
    ["nothing, if its last answer is not there", ["u1", "a old"], "a1", []],
    ["nothing, if it has answered nothing yet", ["u1", "a1"], undefined, []],
    ["what follows the newest of equal answers", ["u1", "a1", "u2", "a1", "u3", "a3"], "a1", ["u3", "a3"]],
    ["the same, whatever became of white space", ["u1", " a1\r\nx\n", "u2", "a2"], "a1\nx", ["u2", "a2"]],
    ["the same, however a letter is composed", ["u1", "ae\u0301", "u2", "a2"], "a\u00e9", ["u2", "a2"]],
  ])("%s", (_, told, lastAnswer, unseen) => {
    const history = told.map((text) => ({
      author: text.trim().startsWith("a") ? ("assistant" as const) : ("user" as const),
      text,
    }));
    expect(unseenMessages(history, lastAnswer).map(({ text }) => text)).toEqual(unseen);
  });
});

it("pairs questions with answers, and joins what one author says in a row", () => {
  expect(exchangesOf(messages("u1", "u2", "a1", "a2", "u3"))).toEqual([
    { user: "u1\nu2", assistant: "a1\na2" },
    { user: "u3", assistant: "" },
  ]);
  expect(exchangesOf(messages("a0", "u1"))).toEqual([
    { user: "", assistant: "a0" },
    { user: "u1", assistant: "" },
  ]);
});

describe("an agent that remembers nothing is given", () => {
  const pairs = (...texts: string[]) => exchangesOf(messages(...texts));

  it.each([
    ["what is kept", ["u1", "a1", "u2", "a2"], [], ["u1", "a1", "u2", "a2"]],
    ["what is told, if nothing is kept", [], ["u1", "a1"], ["u1", "a1"]],
    ["no exchange twice", ["u1", "a1", "u2", "a2"], ["u1", "a1", "u2", "a2"], ["u1", "a1", "u2", "a2"]],
    ["what was told from before", ["u2", "a2"], ["u1", "a1", "u2", "a2"], ["u1", "a1", "u2", "a2"]],
    ["what others answered since", ["u1", "a1"], ["u1", "a1", "u2", "a2"], ["u1", "a1", "u2", "a2"]],
    ["both", ["u2", "a2"], ["u1", "a1", "u2", "a2", "u3", "a3"], ["u1", "a1", "u2", "a2", "u3", "a3"]],
    [
      "all that is kept, if the caller tells less",
      ["u1", "a1", "u2", "a2"],
      ["u2", "a2"],
      ["u1", "a1", "u2", "a2"],
    ],
    ["what is kept, if the caller tells of something else", ["u1", "a1"], ["u8", "a8"], ["u1", "a1"]],
  ])("%s", (_, kept, told, expected) => {
    const said = allSaid({ exchanges: pairs(...kept), truncated: false }, messages(...told));
    expect(said).toEqual({ exchanges: pairs(...expected), truncated: false });
  });

  it("the newest of it, and is told so", () => {
    const kept = { exchanges: pairs("u1", "a1", "u2", "a2", "u3", "a3"), truncated: false };
    expect(allSaid(kept, [], 2 * (4 + 32))).toEqual({
      exchanges: pairs("u2", "a2", "u3", "a3"),
      truncated: true,
    });
    expect(allSaid({ ...kept, truncated: true }, [])).toEqual({ ...kept, truncated: true });
    expect(allSaid(kept, [], 10)).toEqual({ exchanges: [], truncated: true });
  });

  it("what has been cut, if the caller still tells it", () => {
    const kept = { exchanges: pairs("u2", "a2"), truncated: true };
    expect(allSaid(kept, messages("u1", "a1", "u2", "a2"))).toEqual({
      exchanges: pairs("u1", "a1", "u2", "a2"),
      truncated: false,
    });
  });
});
