import { describe, expect, test } from "vitest";
import { Chain, type ChainOwner, toldInput } from "./chain.js";
import type { ToldMessage } from "./history.js";

const chain = new Chain(Buffer.alloc(32, 1));
const owner: ChainOwner = {
  credential: "bot",
  scope: "acme/history",
  provider: "claude",
  model: "",
  system: "Be brief.",
  endUser: "",
};
const user = (text: string): ToldMessage => ({ author: "user", text });
const assistant = (text: string): ToldMessage => ({ author: "assistant", text });
const hex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString("hex");

/** The link that a completed turn gives its session. */
const afterTurn = (history: ToldMessage[], input: string, answer: string) =>
  hex(chain.after(chain.of(owner, history, user(input)).link, assistant(answer)));

test("the next request's history leads to the link after the answer", () => {
  const first = afterTurn([], "hi", "Hello!");
  const told = [user("hi"), assistant("Hello!")];
  expect(hex(chain.of(owner, told, user("more")).anchor)).toBe(first);
  const second = afterTurn(told, "more", "Yes.");
  const longer = [...told, user("more"), assistant("Yes.")];
  expect(hex(chain.of(owner, longer, user("and more")).anchor)).toBe(second);
});

test("without an answer there is nothing to go on from", () => {
  expect(chain.of(owner, [], user("hi")).anchor).toBeUndefined();
  expect(chain.of(owner, [user("hi")], user("hello?")).anchor).toBeUndefined();
});

test("what follows the last answer is no part of the anchor", () => {
  const told = [user("hi"), assistant("Hello!")];
  const { anchor } = chain.of(owner, told, user("more"));
  expect(chain.of(owner, [...told, user("wait")], user("more")).anchor).toEqual(anchor);
});

test.each([
  ["line ends", "a\r\nb", "a\nb"],
  ["white space around", "  a\n", "a"],
  ["composed characters", "e\u0301", "é"],
])("%s make no difference", (_, one, other) => {
  expect(chain.of(owner, [user(one)], user("x"))).toEqual(chain.of(owner, [user(other)], user("x")));
});

test.each([
  ["who said it", [user("a"), user("b")]],
  ["what was said", [user("a"), assistant("c")]],
  ["where one message ends", [user("a"), assistant(""), assistant("b")]],
  ["an attachment", [{ ...user("a"), attachments: [Buffer.from("00")] }, assistant("b")]],
])("%s makes a difference", (_, told) => {
  const { link } = chain.of(owner, [user("a"), assistant("b")], user("x"));
  expect(chain.of(owner, told, user("x")).link).not.toEqual(link);
});

describe("whose it is", () => {
  test.each(Object.keys(owner) as (keyof ChainOwner)[])("another %s has other links", (field) => {
    const other = { ...owner, [field]: "other" };
    expect(chain.of(other, [], user("hi")).link).not.toEqual(chain.of(owner, [], user("hi")).link);
  });

  test("another store has other links", () => {
    const other = new Chain(Buffer.alloc(32, 2));
    expect(other.of(owner, [], user("hi")).link).not.toEqual(chain.of(owner, [], user("hi")).link);
  });
});

test("an input is told with what it carries", () => {
  const image = { kind: "image", mediaType: "image/png", name: "a", data: Buffer.from("x") } as const;
  const told = toldInput([{ kind: "text", text: "a" }, image, { kind: "text", text: "b" }]);
  expect(told).toMatchObject({ author: "user", text: "a\nb" });
  expect(told.attachments).toHaveLength(1);
});
