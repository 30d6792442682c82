import { expect, it } from "vitest";
import { Background } from "./background.js";

it("does a task again and again, never twice at once, and ends with what runs", async () => {
  const background = new Background();
  const failures: unknown[] = [];
  let running = 0;
  let runs = 0;
  const many = new Promise<void>((resolve) => {
    background.every(
      1,
      async (stopping) => {
        expect(++running).toBe(1);
        runs += 1;
        if (runs === 5) resolve();
        if (runs >= 5) await new Promise((stopped) => stopping.addEventListener("abort", stopped));
        else await new Promise((later) => setTimeout(later, 5));
        running -= 1;
        if (runs === 2) throw new Error("once");
      },
      (error) => failures.push(error),
    );
  });
  await many;
  await background.stop(60_000);
  expect([running, runs, failures.length]).toEqual([0, 5, 1]);
});

it("does not wait for ever for a task that does not end", async () => {
  const background = new Background();
  await new Promise<void>((started) => {
    background.every(
      1,
      () => {
        started();
        return new Promise(() => {});
      },
      () => {},
    );
  });
  await background.stop(1);
});
