/** Where a session's agent works. */
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { Outcome } from "../../gen/sessionbroker/v1/session_pb.js";
import { detailOf, reasonOf } from "../support/answers.js";
import { InProcessBroker, ManualClock } from "../support/in-process.js";

let folder: string;
let clock: ManualClock;
let broker: InProcessBroker;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), "workspaces-"));
  mkdirSync(join(folder, "handbook"));
  clock = new ManualClock(Date.UTC(2026, 0, 1));
  broker = await InProcessBroker.start(clock, config("handbook"));
});

afterEach(async () => {
  await broker.close();
  rmSync(folder, { recursive: true });
});

const config = (name: string) => `
workspaces: ${folder}/own
scopes:
  - pattern: acme
    workspaces: { ${name}: ${folder}/${name}, gone: ${folder}/gone }
`;

const key = (externalId: string, scope = "acme") => ({ scope, externalId, provider: "echo" });

/** How a turn of the session ends. */
async function endingOf(externalId: string, reserve?: { workspace: string }): Promise<string | undefined> {
  const input = [{ part: { case: "text" as const, value: "hello" } }];
  let last: string | undefined;
  const target = { case: "key" as const, value: key(externalId) };
  for await (const { event } of broker.client.dispatch({ target, input, ...(reserve && { reserve }) })) {
    last = event?.event.case;
  }
  return last;
}

const own = () => readdirSync(join(folder, "own"));

it("each session has a directory of its own below one root, also if they share an id", async () => {
  const sessionId = "../../etc";
  for (const chat of ["a", "b"]) {
    await broker.client.reserve({ key: key(chat), sessionId });
    expect(await endingOf(chat)).toBe("completed");
    expect(await endingOf(chat)).toBe("completed");
  }
  expect(new Set(own()).size).toBe(2);
  expect(readdirSync(folder).toSorted()).toEqual(["handbook", "own"]);
});

it("a directory that was replaced by a link to elsewhere is not worked in", async () => {
  expect(await endingOf("linked")).toBe("completed");
  const [name = ""] = own();
  rmSync(join(folder, "own", name), { recursive: true });
  symlinkSync("/tmp", join(folder, "own", name));
  expect(await endingOf("linked")).toBe("failed");
});

it("a request names a workspace of its scope, never a path", async () => {
  for (const workspace of ["/etc", "../handbook", `${folder}/handbook`, ".", "Handbook"]) {
    expect(await reasonOf(broker.client.reserve({ key: key("x"), workspace }))).toBe(
      "InvalidArgument INVALID_FIELD",
    );
  }
  expect(await reasonOf(broker.client.reserve({ key: key("x"), workspace: "unknown" }))).toBe(
    "InvalidArgument UNKNOWN_WORKSPACE",
  );
  const workspace = "handbook";
  expect(await reasonOf(broker.client.reserve({ key: key("x", "beta"), workspace }))).toBe(
    "InvalidArgument UNKNOWN_WORKSPACE",
  );
  expect((await broker.client.reserve({ key: key("x"), workspace })).outcome).toBe(Outcome.CREATED);
  expect(await endingOf("x")).toBe("completed");
  expect(readdirSync(folder)).toEqual(["handbook"]);
});

it("a workspace that is not there fails the turn, and not the broker", async () => {
  await broker.client.reserve({ key: key("lost"), workspace: "gone" });
  expect(await endingOf("lost")).toBe("failed");
  expect(await endingOf("other")).toBe("completed");
});

it("a live session keeps its workspace; without one in the request it goes on", async () => {
  await broker.client.reserve({ key: key("own") });
  await broker.client.reserve({ key: key("named"), workspace: "handbook" });
  for (const chat of ["own", "named"]) {
    const call = broker.client.reserve({ key: key(chat), workspace: "gone" });
    expect(await reasonOf(call)).toBe("FailedPrecondition WORKSPACE_MISMATCH");
    expect(await detailOf(call)).toEqual({ workspace: chat === "own" ? "" : "handbook" });
    expect((await broker.client.reserve({ key: key(chat) })).outcome).toBe(Outcome.EXISTING);
  }
  expect(await reasonOf(broker.client.reserve({ key: key("named"), workspace: "handbook" }))).toBe("none");
});
