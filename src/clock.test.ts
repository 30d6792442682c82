import { describe, expect, it } from "vitest";
import { PartingClock } from "../test/support/parting-clock.js";
import { ClockGuard } from "./clock.js";

const minute = 60_000;
const hour = 60 * minute;

function guarded() {
  const clock = new PartingClock(Date.UTC(2026, 0, 1));
  const jumps: number[] = [];
  return { clock, jumps, guard: new ClockGuard(clock, (byMs) => jumps.push(byMs)) };
}

describe("the wall clock", () => {
  it.each([
    ["stands still", 0, true],
    ["is put right by five minutes", 5 * minute, true],
    ["is put back by five minutes", -5 * minute, true],
    ["jumps by more", 5 * minute + 1, false],
    ["is set back by more", -5 * minute - 1, false],
  ])("that %s is believed or not", (_, byMs, believed) => {
    const { clock, jumps, guard } = guarded();
    clock.jump(byMs);
    expect(guard.believed()).toBe(believed);
    expect(jumps).toEqual(believed ? [] : [byMs]);
  });

  it("that agrees with the monotonic one is believed, however much time passes", () => {
    const { clock, jumps, guard } = guarded();
    clock.advance(1000 * hour);
    expect([guard.believed(), jumps]).toEqual([true, []]);
  });

  it("that parts little by little is not believed once it is far off", () => {
    const { clock, guard } = guarded();
    const answers = Array.from({ length: 6 }, () => {
      clock.jump(minute);
      return guard.believed();
    });
    expect(answers).toEqual([true, true, true, true, true, false]);
  });

  it("is believed again after an hour in which both agreed, by the monotonic one", () => {
    const { clock, jumps, guard } = guarded();
    clock.jump(24 * hour);
    expect(guard.believed()).toBe(false);
    clock.advance(hour - 1);
    expect(guard.believed()).toBe(false);
    clock.advance(1);
    expect(guard.believed()).toBe(true);
    expect(jumps).toEqual([24 * hour]);
  });

  it("that jumps back within the hour has the hour before it again", () => {
    const { clock, jumps, guard } = guarded();
    clock.jump(24 * hour);
    guard.believed();
    clock.advance(50 * minute);
    clock.jump(-24 * hour);
    expect(guard.believed()).toBe(false);
    clock.advance(59 * minute);
    expect(guard.believed()).toBe(false);
    clock.advance(minute);
    expect(guard.believed()).toBe(true);
    expect(jumps).toEqual([24 * hour, -24 * hour]);
  });
});
