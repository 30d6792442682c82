import { expect, it } from "vitest";
import { Progress } from "./progress.js";

function run(isTTY: boolean, rows: number): { text: string; rows: number } {
  let text = "";
  const write = (chunk: string | Uint8Array) => {
    text += chunk;
    return true;
  };
  const progress = new Progress("read", { isTTY, write });
  for (let row = 0; row < rows; row++) progress.add();
  progress.end();
  return { text, rows: progress.rows };
}

it("counts on one line of a terminal, and clears it", () => {
  expect(run(true, 1_200)).toEqual({ text: "\r500 rows read\r1000 rows read\r\u001b[K", rows: 1_200 });
});

it("is silent for few rows, and where there is no terminal", () => {
  expect(run(true, 499).text).toBe("");
  expect(run(false, 1_200).text).toBe("");
});
