/**
 * Random sequences of calls against a broker on a real store, each answer
 * compared with a model of the design.
 *
 * SESSION_BROKER_MODEL_RUNS: how many sequences.
 * SESSION_BROKER_MODEL_SEED, _PATH, _REPLAY: what a failure printed as seed, path
 * and replayPath, to run that sequence again.
 */
import { setMaxListeners } from "node:events";
import fc from "fast-check";
import { afterAll, it } from "vitest";
import { InProcessBroker, SteppedClock } from "../support/in-process.js";
import { as, inTime, type Stage } from "./commands/command.js";
import { commands } from "./commands/index.js";
import { compareExport } from "./commands/looking.js";
import { config, removeWorkspaces, scopePolicy } from "./commands/setting.js";
import { Streams } from "./commands/streams.js";
import { readAllWatches } from "./commands/watching.js";
import { IdentityModel } from "./identity/model.js";

// Many calls at once share the signal that stops the server.
setMaxListeners(0);

const runs = Number(process.env.SESSION_BROKER_MODEL_RUNS ?? 25);
const { SESSION_BROKER_MODEL_SEED: seed, SESSION_BROKER_MODEL_PATH: path } = process.env;
const replayPath = process.env.SESSION_BROKER_MODEL_REPLAY;

afterAll(removeWorkspaces);

/** Shrinking a failure ends after a while, and shows the smallest that was found. */
const longestMs = 600_000 + runs * 5_000;

it(
  `answers ${runs} sequences of calls as the model does`,
  () => fc.assert(property, parameters),
  longestMs + 60_000,
);

const sequences = fc.commands(commands, {
  maxCommands: 60,
  size: "max",
  ...(replayPath === undefined ? {} : { replayPath }),
});

const property = fc.asyncProperty(sequences, async (sequence) => {
  const clock = new SteppedClock(Date.UTC(2025, 5, 1, 3, 30));
  const broker = await InProcessBroker.start(clock, config);
  const stage: Stage = { clock, broker, streams: new Streams() };
  const model = new IdentityModel(clock, scopePolicy);
  try {
    await fc.asyncModelRun(() => ({ model, real: stage }), sequence);
    await inTime(readAllWatches(model, stage));
    await compareExport(model, as(stage, "admin-token"));
  } finally {
    await broker.close("in a hurry");
  }
});

const parameters = {
  numRuns: runs,
  ...(seed === undefined ? {} : { seed: Number(seed) }),
  ...(path === undefined ? {} : { path }),
  interruptAfterTimeLimit: longestMs,
  markInterruptAsFailure: true,
};
