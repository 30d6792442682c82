import { createHash } from "node:crypto";
import { expect, it } from "vitest";
import type { TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import type { Clock } from "../clock.js";
import { Permissions } from "./permissions.js";
import { TurnLog } from "./turn-log.js";

const input = '{"command":"ls"}';
const digest = createHash("sha256").update(input).digest("hex");

function setUp() {
  const timers: { ms: number; task: () => void; cancelled: boolean }[] = [];
  const clock: Clock = {
    now: () => 1_000,
    monotonic: () => 0,
    after(ms, task) {
      const timer = { ms, task, cancelled: false };
      timers.push(timer);
      return () => {
        timer.cancelled = true;
      };
    },
  };
  const log = new TurnLog(
    "turn",
    clock,
    async () => true,
    () => {},
  );
  log.reserved(100);
  const decisions: { allowed: boolean; message: string }[] = [];
  const permissions = new Permissions(log, clock);
  const withdrawal = new AbortController();
  permissions.ask(
    {
      kind: "permission",
      tool: "Bash",
      input,
      decide: (decision) => decisions.push(decision),
      withdrawn: withdrawal.signal,
    },
    60_000,
  );
  const [request] = permissions.pending;
  if (request === undefined) throw new Error("nothing was asked");
  const answer = { permissionId: request.permissionId, inputDigest: digest, allow: true, message: "go on" };
  const deadline = () => timers.find(({ ms }) => ms === 60_000);
  const events = (): readonly TurnEvent["event"][] => (log.after(1) ?? []).map(({ event }) => event);
  return { permissions, withdrawal, request, answer, decisions, deadline, events };
}

it("shows the question with a digest of its input and a deadline, and the answer to it", () => {
  const { permissions, request, answer, decisions, events } = setUp();
  expect(request).toMatchObject({ tool: "Bash", input, inputDigest: digest, deadline: { seconds: 61n } });
  expect(permissions.respond(answer)).toMatchObject({ allowed: true, message: "go on" });
  expect(decisions).toEqual([{ allowed: true, message: "go on" }]);
  expect(events().map((event) => event.case)).toEqual(["permissionRequest", "permissionDecision"]);
  expect(permissions.pending).toEqual([]);
});

it("takes the first answer", () => {
  const { permissions, answer, decisions } = setUp();
  permissions.respond({ ...answer, allow: false });
  expect(() => permissions.respond(answer)).toThrow(
    expect.objectContaining({ reason: "PERMISSION_DECIDED" }),
  );
  expect(decisions).toMatchObject([{ allowed: false }]);
});

it("is denied at its deadline, and takes no answer afterwards", () => {
  const { permissions, answer, decisions, deadline } = setUp();
  deadline()?.task();
  expect(decisions).toMatchObject([{ allowed: false }]);
  expect(() => permissions.respond(answer)).toThrow(
    expect.objectContaining({ reason: "PERMISSION_DECIDED" }),
  );
});

it.each([
  ["another input", { inputDigest: "0" }, "PERMISSION_MISMATCH"],
  ["a question nobody asked", { permissionId: "other" }, "PERMISSION_NOT_FOUND"],
])("refuses an answer to %s, and goes on waiting", (_, wrong, reason) => {
  const { permissions, answer, decisions } = setUp();
  expect(() => permissions.respond({ ...answer, ...wrong })).toThrow(expect.objectContaining({ reason }));
  expect(decisions).toEqual([]);
  expect(permissions.pending).toHaveLength(1);
});

it("is void once the turn has ended", () => {
  const { permissions, answer, decisions, deadline } = setUp();
  permissions.void();
  expect(deadline()?.cancelled).toBe(true);
  expect(() => permissions.respond(answer)).toThrow(
    expect.objectContaining({ reason: "PERMISSION_NOT_FOUND" }),
  );
  expect(decisions).toEqual([]);
});

it("is void once the agent waits no more", () => {
  const { permissions, withdrawal, answer, decisions, deadline } = setUp();
  withdrawal.abort();
  expect(deadline()?.cancelled).toBe(true);
  expect(permissions.pending).toEqual([]);
  expect(() => permissions.respond(answer)).toThrow(
    expect.objectContaining({ reason: "PERMISSION_NOT_FOUND" }),
  );
  expect(decisions).toEqual([]);
});
