import { expect, test } from "vitest";
import { answerOf, runTurn, turnOf } from "../../../test/providers/turns.js";
import { createEchoProvider } from "./index.js";

const workspace = "/";

test("the answer is the turn's number and the text, word by word", async () => {
  const provider = createEchoProvider({ id: "echo" });
  const ran = await runTurn(provider, turnOf("  two  words\nand a line ", { workspace, turnNumber: 7 }));
  expect(answerOf(ran)).toBe("turn 7:   two  words\nand a line ");
  expect(ran.text).toBe(answerOf(ran));
  expect(ran.events.filter((event) => event.kind === "text").length).toBe(8);
});

test("text parts are joined by a newline, and attachments left out", async () => {
  const provider = createEchoProvider({ id: "echo" });
  const input = [
    { kind: "text", text: "one" },
    { kind: "image", mediaType: "image/png", name: "", data: new Uint8Array() },
    { kind: "text", text: "two" },
  ] as const;
  expect(answerOf(await runTurn(provider, turnOf("", { workspace, input })))).toBe("turn 1: one\ntwo");
});

test("it says the id that it was given", async () => {
  const turn = turnOf("x", { workspace, binding: { state: "bound", nativeId: "native" } });
  const ran = await runTurn(createEchoProvider({ id: "echo" }), turn);
  expect(ran.events[0]).toEqual({ kind: "started", nativeId: "native", resumed: true, warm: true });
  expect(ran.outcome).toMatchObject({ nativeId: "native" });
});

test("a cancelled turn stops between two words", async () => {
  const abort = new AbortController();
  const turn = turnOf("a b c d", { workspace, signal: abort.signal });
  const provider = createEchoProvider({ id: "echo", delayMs: 5 });
  const ran = await runTurn(provider, turn, (event) => {
    if (event.kind === "text") abort.abort();
  });
  expect(ran.outcome).toEqual({ status: "cancelled" });
  expect(ran.text).toBe("turn");
});
