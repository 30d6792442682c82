/**
 * Many random lives of a dispatcher, each decided by one seed. A failure prints
 * its seed; SESSION_BROKER_SIMULATION_SEED runs that one alone, and
 * SESSION_BROKER_SIMULATION_SEEDS sets how many there are.
 */
import { afterAll, expect, it } from "vitest";
import { SimulatedDisk, World } from "./world.js";

const only = process.env.SESSION_BROKER_SIMULATION_SEED;
const seeds = Number(process.env.SESSION_BROKER_SIMULATION_SEEDS ?? 10_000);

const disk = new SimulatedDisk();

afterAll(() => disk.close());

it(`${seeds} seeds break no rule`, { timeout: 600_000 }, async () => {
  const first = only === undefined ? 1 : Number(only);
  const last = only === undefined ? seeds : first;
  for (let seed = first; seed <= last; seed++) {
    const world = new World(disk, seed);
    try {
      await world.run();
    } catch (error) {
      const story = world.log.join("\n  ");
      throw new Error(`SESSION_BROKER_SIMULATION_SEED=${seed}\n  ${story}`, { cause: error });
    }
  }
  expect(last).toBeGreaterThanOrEqual(first);
});
