/** Time that passes, clocks that jump, and restarts. */
import fc from "fast-check";
import { expect } from "vitest";
import { Outcome, Visibility } from "../../../gen/sessionbroker/v1/session_pb.js";
import { latestBoundary } from "../identity/time.js";
import { type Command, key, ownCommand, settle } from "./command.js";
import { pass, restart } from "./lanes.js";
import { policy, reserve } from "./reserving.js";
import { chats, hourMs } from "./setting.js";

const minuteMs = 60_000;

export const passing: fc.Arbitrary<Command>[] = [
  ownCommand(
    "Advance",
    {
      ms: fc.constantFrom(1, 30_000, 61_000, hourMs, hourMs + 1, 5 * hourMs, 26 * hourMs, 200 * hourMs),
      holders: fc.constantFrom("renew", "renew", "are gone"),
    },
    ({ ms, holders }, m, r) => pass(m, r, ms, holders),
  ),
  ownCommand("ReserveAtEdge", { key, policy, byMs: fc.constantFrom(0, 1) }, async (c, m, r) => {
    const nowMs = r.clock.now();
    const row = m.live(c.key);
    const { idleMs, daily } = c.policy;
    const edges = [
      ...(idleMs === undefined || row === undefined ? [] : [row.activeAtMs + idleMs]),
      ...(daily === undefined ? [] : [latestBoundary(daily, nowMs) + 24 * hourMs]),
    ].filter((edgeMs) => edgeMs >= nowMs);
    await pass(m, r, (edges[0] ?? nowMs) - nowMs + c.byMs, "renew");
    await reserve(m, r, c.key, { policy: c.policy });
    r.clock.advance(1);
    await reserve(m, r, c.key, { policy: c.policy });
  }),
  ownCommand(
    "Jump",
    {
      ms: fc.constantFrom(
        ...[3, -3, 5, -5, 6, -6].map((minutes) => minutes * minuteMs),
        26 * hourMs,
        -2 * hourMs,
      ),
    },
    async ({ ms }, m, r) => {
      // What is written behind would be stamped with another time than the one it had.
      await settle(m, r);
      r.clock.jump(ms);
      // The broker looks at its clocks with each reservation; this one leaves nothing behind.
      const unknown = { scope: chats, externalId: "nowhere", provider: "echo" };
      const { outcome } = await r.client.reserve({ key: unknown, visibility: Visibility.INTERNAL });
      expect(Outcome[outcome]).toBe("EPHEMERAL");
      m.belief.look();
    },
  ),
  ownCommand("Restart", {}, (_, m, r) => restart(m, r)),
];
