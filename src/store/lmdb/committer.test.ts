/** Which batches are in the log alone, and that nothing that was answered is lost by what fails after it. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ScratchTables } from "../../../test/support/scratch-tables.js";
import type { ReserveCall } from "../../sessions/session-store.js";
import type { CommandCall } from "./commands.js";
import { type Batch, type BatchDone, Committer } from "./committer.js";
import { takeOwnership } from "./owner.js";
import { RedoLog, readRedoLog } from "./redo-log.js";
import { newSession } from "./reserve-commands.js";

let scratch: ScratchTables;
let log: RedoLog;
let committer: Committer;

beforeEach(() => {
  scratch = new ScratchTables();
  scratch.write(({ tables }) => takeOwnership(tables, "test", tables.path, 0));
  const opened = RedoLog.open(scratch.tables.path, "scratch");
  if (opened === undefined) throw new Error("there is no room");
  log = opened;
  committer = new Committer({ tables: scratch.tables, instance: "test", log });
});

afterEach(() => {
  committer.close();
  scratch.close();
});

const key = (externalId: string) => ({ scope: "acme", externalId, provider: "echo" });

function reserve(externalId: string, more: Partial<ReserveCall> = {}): CommandCall {
  const rest = { aliases: [], internal: false, scopeResetPolicy: {}, workspace: "", labels: {} };
  const input: ReserveCall = {
    reservation: { key: key(externalId), ...rest },
    ...{ nowMs: 1_000, clockBelieved: true, newSessionId: `id of ${externalId}` },
    ...more,
  };
  return { name: "reserve", input };
}

const settle: CommandCall = { name: "settle", input: undefined };
/** No turn has this number: reading what is to be ended throws. */
const failing: CommandCall = { name: "end", input: undefined };

/** Does batches in one call, and tells what was answered. */
function work(first: Batch, ...others: readonly Batch[]) {
  return workWith(committer, first, ...others);
}

function workWith(
  worker: Committer,
  first: Batch,
  ...others: readonly Batch[]
): { done: BatchDone[]; left: readonly Batch[] } {
  const left = [...others];
  const done: BatchDone[] = [];
  worker.work(
    first,
    () => left.shift(),
    (each) => done.push(each),
  );
  return { done, left };
}

/** Each batch as what its commands came to, and whether it was committed. */
function outcomes(done: readonly BatchDone[]) {
  return done.map(({ answers, committed }) => [
    ...answers.map((answer) => {
      if ("created" in answer) return "CREATED";
      if ("failure" in answer) return answer.failure.kind;
      return (answer.value as { outcome?: string } | undefined)?.outcome ?? "done";
    }),
    committed,
  ]);
}

/** What the next process would find, in the store and with its log. */
function afterCrash(externalId: string): { inStore: boolean; inLog: boolean } {
  const writes = readRedoLog(scratch.tables.path, "scratch", scratch.tables.loggedThrough());
  return {
    inStore: scratch.tables.current(key(externalId)) !== undefined,
    inLog: writes.some(({ table, key: at }) => table === "sessions" && String(at).includes(externalId)),
  };
}

const inStore = { inStore: true, inLog: false };

describe("a committer", () => {
  it("answers new sessions once they are in the log, and commits them with the next command", () => {
    const { done, left } = work(
      [reserve("one"), reserve("two")],
      [reserve("three")],
      [settle],
      [reserve("four")],
    );
    expect(outcomes(done)).toEqual([
      ["CREATED", "CREATED", false],
      ["CREATED", false],
      ["done", true],
    ]);
    expect(left).toHaveLength(1);
    for (const name of ["one", "two", "three"]) expect(afterCrash(name)).toEqual(inStore);
  });

  it("answers in short, and its caller finds the same as the store", () => {
    const { reservation } = reserve("one").input as ReserveCall;
    const more = {
      aliases: ["a", "b"],
      labels: { team: "blue" },
      resetPolicy: { idleMs: 5 },
      workspace: "w",
    };
    const call = reserve("one", { reservation: { ...reservation, ...more } });
    const [answer] = work([call]).done[0]?.answers ?? [];
    if (answer === undefined || !("created" in answer)) throw new Error("it is answered at length");
    expect(newSession(call.input as ReserveCall, answer.created)).toEqual({
      kind: "reserved",
      outcome: "CREATED",
      view: { row: scratch.tables.current(key("one")), lane: { queuedTurns: 0 } },
    });
  });

  it("has in the log what it has answered, before the commit", () => {
    const seen: unknown[] = [];
    committer.work(
      [reserve("one")],
      () => {
        const writes = readRedoLog(scratch.tables.path, "scratch", 0);
        seen.push(writes.filter(({ table }) => table === "sessions").length);
        return undefined;
      },
      () => {},
    );
    expect(seen).toEqual([1]);
    expect(afterCrash("one")).toEqual(inStore);
  });

  it.each([
    ["a session that exists", [reserve("one")]],
    [
      "an idempotency key",
      [reserve("two", { idempotency: { owner: "a", key: "k", requestHash: Buffer.from("h") } })],
    ],
    ["any other command", [reserve("two"), settle]],
    [
      "more than the log takes",
      [
        reserve("two", {
          reservation: {
            ...(reserve("two").input as ReserveCall).reservation,
            labels: { big: "x".repeat(2_000_000) },
          },
        }),
      ],
    ],
  ])("commits at once with %s", (_, batch) => {
    work([reserve("one")]);
    expect(outcomes(work(batch, []).done).at(-1)?.at(-1)).toBe(true);
  });

  it("commits everything at once without a log", () => {
    const plain = new Committer({ tables: scratch.tables, instance: "test" });
    const { done, left } = workWith(plain, [reserve("one")], [reserve("two")]);
    expect(outcomes(done)).toEqual([["CREATED", true]]);
    expect(left).toHaveLength(1);
  });

  it("does again what was in the log alone when a command fails, and fails that one alone", () => {
    const { done } = work([reserve("one")], [reserve("two"), failing, reserve("three")]);
    expect(outcomes(done)).toEqual([
      ["CREATED", false],
      ["CREATED", "failed", "CREATED", true],
    ]);
    for (const name of ["one", "two", "three"]) expect(afterCrash(name)).toEqual(inStore);
  });

  it("keeps what was in the log alone when the only command fails, and commits it with the next", () => {
    const { done } = work([reserve("one")], [failing]);
    expect(outcomes(done)).toEqual([
      ["CREATED", false],
      ["failed", false],
    ]);
    expect(afterCrash("one")).toEqual({ inStore: false, inLog: true });
    expect(outcomes(work([reserve("one"), reserve("two")]).done)).toEqual([["EXISTING", "CREATED", true]]);
    for (const name of ["one", "two"]) expect(afterCrash(name)).toEqual(inStore);
  });

  it("goes on with the numbers of its records after a failure", () => {
    work([reserve("one")], [failing]);
    expect(outcomes(work([reserve("two")], [failing]).done)).toEqual([
      ["CREATED", false],
      ["failed", false],
    ]);
    expect(afterCrash("one")).toEqual({ inStore: false, inLog: true });
    expect(afterCrash("two")).toEqual({ inStore: false, inLog: true });
  });

  it("writes nothing for a process that has lost the store", () => {
    const other = new Committer({ tables: scratch.tables, instance: "another", log });
    const { done } = workWith(other, [reserve("one")]);
    expect(outcomes(done)).toEqual([["lost", false]]);
    expect(afterCrash("one")).toEqual({ inStore: false, inLog: false });
  });

  it("answers nothing and keeps nothing when the log cannot be written", () => {
    const failingLog = Object.assign(Object.create(log) as RedoLog, {
      append() {
        throw Object.assign(new Error("input/output error"), { code: "EIO" });
      },
    });
    const other = new Committer({ tables: scratch.tables, instance: "test", log: failingLog });
    const { done } = workWith(other, [reserve("one")]);
    expect(outcomes(done)).toEqual([["broken", false]]);
    expect(afterCrash("one")).toEqual({ inStore: false, inLog: false });
  });
});
