import { expect, it } from "vitest";
import type { NativeBinding } from "../../turns/provider.js";
import { chooseConversation } from "./conversation.js";

const states: readonly NativeBinding["state"][] = ["fresh", "provisional", "bound"];

it.each([
  // resumes, names its conversations: what becomes of a fresh, a provisional and a bound one
  [false, false, ["first old", "first old", "first old"]],
  [false, true, ["first", "first", "first"]],
  [true, false, ["first old", "first new", "resumed old"]],
  [true, true, ["first", "resumed old", "resumed old"]],
])("a program that resumes: %s, and names conversations: %s", (resumes, namesConversations, expected) => {
  const chosen = states.map((state) => {
    const memory = { resumes, namesConversations };
    const { template, nativeId } = chooseConversation({ state, nativeId: "old" }, memory, () => "new");
    return [template, nativeId].filter((word) => word !== undefined).join(" ");
  });
  expect(chosen).toEqual(expected);
});

it("a conversation without an id begins", () => {
  const memory = { resumes: true, namesConversations: false };
  expect(chooseConversation({ state: "fresh" }, memory, () => "new")).toEqual({
    template: "first",
    nativeId: "new",
  });
});
