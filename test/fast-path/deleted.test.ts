/** Whoever deletes the folder of the fast path needs to change nothing else. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { TestBroker } from "../support/broker.js";

const project = fileURLToPath(new URL("../../", import.meta.url));
let folder: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "build-"));
});

afterEach(() => rmSync(folder, { recursive: true }));

it("is named by no import outside itself", () => {
  const files = readdirSync(join(project, "src"), { recursive: true, encoding: "utf8" });
  const others = files.filter((file) => file.endsWith(".ts") && !file.includes("fast-path"));
  expect(others.length).toBeGreaterThan(100);
  const named = others.filter((file) =>
    / from "[^"]*fast-path/.test(readFileSync(join(project, "src", file), "utf8")),
  );
  expect(named).toEqual([]);
});

it("is missed by nothing: connect-node answers", async () => {
  for (const name of ["dist", "package.json"])
    cpSync(join(project, name), join(folder, name), { recursive: true });
  symlinkSync(join(project, "node_modules"), join(folder, "node_modules"));
  rmSync(join(folder, "dist/src/server/fast-path"), { recursive: true });
  const broker = await TestBroker.start({ main: join(folder, "dist/src/main.js") });
  try {
    for (const protocol of ["connect", "grpc"] as const) {
      const key = { scope: "acme", externalId: protocol, provider: "echo" };
      expect((await broker.client(protocol).reserve({ key })).outcome).toBe(Outcome.CREATED);
    }
  } finally {
    await broker.close();
  }
});
