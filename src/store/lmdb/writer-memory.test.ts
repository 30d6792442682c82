/** The writing thread is busy for as long as it lives, and gives back all the same what it has done with. */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { compiledSibling } from "./compiled.js";

let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "writer-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

/** Resident bytes by which a process grows over so many commands, each of which reads a range; the first are a warm-up. */
function growth(commands: number): number {
  const program = `
    import { openStore } from ${JSON.stringify(compiledSibling("open").href)};
    const [path, commands] = process.argv.slice(2);
    const onLost = (error) => { throw error; };
    const { store, [Symbol.asyncDispose]: close } = await openStore({ path, now: Date.now, onLost });
    const key = { scope: "acme", externalId: "chat", provider: "echo" };
    const rest = { aliases: [], internal: false, scopeResetPolicy: {}, workspace: "", labels: {} };
    const call = { reservation: { key, ...rest }, nowMs: 1_000, clockBelieved: true, newSessionId: "id" };
    const reserve = async (times) => {
      for (let done = 0; done < times; done += 500)
        await Promise.all(Array.from({ length: 500 }, () => store.reserve(call)));
    };
    await reserve(100_000);
    const before = process.memoryUsage.rss();
    await reserve(Number(commands));
    console.log(process.memoryUsage.rss() - before);
    await close();
  `;
  const file = join(folder, "program.mjs");
  writeFileSync(file, program);
  return Number(
    execFileSync(process.execPath, [file, join(folder, "s"), `${commands}`], { encoding: "utf8" }),
  );
}

it("keeps nothing of a range that was read", { timeout: 240_000 }, () => {
  // Some 400 bytes stayed of each.
  expect(growth(400_000)).toBeLessThan(70 * 2 ** 20);
});
