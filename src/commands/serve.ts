/** `session-broker serve`: the broker, until it is told to stop. */
import { type Logger, pino } from "pino";
import type { Settings } from "../config/config.js";
import { tokenFile } from "../config/tokens.js";
import { setUpHeap } from "../heap.js";
import type { Recovery } from "../opening.js";
import { type Serving, serveBroker } from "../serving.js";
import { needVerify } from "../store/lmdb/last-run.js";
import { OwnershipLost } from "../store/lmdb/owner.js";
import { describeAddress, untilStopped } from "./process.js";

const drainMs = 30_000;

/** @param reread reads the settings once more. @throws ConfigError */
export async function serve(settings: Settings, reread: () => Settings, recovery: Recovery): Promise<void> {
  setUpHeap();
  const log = pino(
    { name: "session-broker", level: process.env.SESSION_BROKER_LOG_LEVEL ?? "info" },
    pino.destination(2),
  );
  const stop = untilStopped();
  const serving = await serveBroker({
    settings,
    environment: process.env,
    log,
    recovery,
    onLost: (error) => {
      log.fatal({ err: error }, "the store can no longer be written; ending");
      if (!(error instanceof OwnershipLost)) noteDoubt(settings.data, error, log);
      process.exit(1);
    },
  });
  process.on("SIGHUP", () => reload(serving, reread, log));
  const { metricsAddress } = serving;
  const metrics =
    metricsAddress === undefined ? "" : `; metrics at ${describeAddress(metricsAddress)}/metrics`;
  process.stdout.write(
    `session-broker listens on ${describeAddress(serving.address, settings.tls !== undefined)} and ${settings.socket}; token in ${tokenFile(settings.data)}${metrics}\n`,
  );

  await stop.first;
  log.info("stopping: running turns may end, new ones are refused");
  stop.second.then(() => serving.hurry());
  await serving.stop(drainMs);
}

/** The next start reads all of the store. */
function noteDoubt(data: string, error: Error, log: Logger): void {
  try {
    needVerify(data, error.message.split("\n")[0] ?? "");
  } catch (cause) {
    log.fatal(
      { err: cause },
      "verify-needed cannot be written: run session-broker verify before the next start",
    );
  }
}

/** SIGHUP: whatever is wrong, the broker goes on with what it had. */
function reload(serving: Serving, reread: () => Settings, log: Logger): void {
  try {
    const { changed, needsRestart } = serving.reload(reread());
    log.info({ changed, needsRestart }, "the configuration was read again, credentials as well");
    if (needsRestart.length > 0) log.warn(`in force after a restart: ${needsRestart.join(", ")}`);
  } catch (error) {
    log.error(`the configuration stays as it was: ${(error as Error).message}`);
  }
}
