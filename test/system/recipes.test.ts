/** The recipes of docs/providers/command.md, as they stand there. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { TestBroker } from "../support/broker.js";
import { dispatchTurn } from "../support/turns.js";

const page = readFileSync(new URL("../../docs/providers/command.md", import.meta.url), "utf8");
const recipes = [...page.matchAll(/```yaml\n(.*?)```/gs)].map(([, recipe = ""]) => recipe);

/** What two turns, "hello" and "again", are answered. */
const answers: Readonly<Record<string, readonly [RegExp, RegExp]>> = {
  shout: [/^HELLO$/, /"USER":"HELLO".*AGAIN$/s],
  records: [/^hello$/, /^hello$/],
  notes: [/^hello$/, /^helloagain$/],
  naming: [/^begun$/, /^went on$/],
  models: [/^--model=small\n$/, /^--model=small\n$/],
};

const idOf = (recipe: string) => / id: (\S+)/.exec(recipe)?.[1] ?? "";

it("every recipe is tried", () => {
  expect(recipes.map(idOf)).toEqual(Object.keys(answers));
});

it.each(recipes.map((recipe) => [idOf(recipe), recipe]))("%s", async (provider, recipe) => {
  const broker = await TestBroker.start({ config: recipe });
  try {
    const client = broker.client();
    const target = { case: "key" as const, value: { scope: "docs", externalId: "recipe", provider } };
    for (const [index, text] of ["hello", "again"].entries()) {
      const ending = (await dispatchTurn(client, text, { target }).ended).at(-1)?.event;
      expect(ending?.case, JSON.stringify(ending?.value, String)).toBe("completed");
      expect(ending?.case === "completed" && ending.value.text).toMatch(answers[provider]?.[index] ?? /^$/);
    }
  } finally {
    await broker.close();
  }
});
