import { expect, test } from "vitest";
import { replayIsOver } from "./replay.js";

test.each([
  ["no replay", [0, 0], 2],
  ["a replay of three pings", [1, 3, 2, 0, 0], 5],
  ["a replay with a quiet ping in between", [1, 0, 2, 0, 0], 5],
])("%s", async (_, updatesBeforeEachAnswer, pings) => {
  let updates = 0;
  let asked = 0;
  const ping = async () => {
    updates += updatesBeforeEachAnswer[asked++] ?? 0;
    return true;
  };
  await replayIsOver(ping, () => updates);
  expect(asked).toBe(pings);
});

test("an agent that does not answer is not waited for", async () => {
  let asked = 0;
  await replayIsOver(
    async () => {
      asked++;
      return false;
    },
    () => asked,
  );
  expect(asked).toBe(1);
});
