/** `session-broker check`: settings that could be read, in words or as a file. */
import type { Settings } from "../config/config.js";
import { effectiveText } from "../config/effective.js";
import { readTls } from "../config/tls.js";
import { usersOf } from "../providers/run-as.js";
import { writeLines, writeText } from "./output.js";
import { describeAddress } from "./process.js";
import { factLines } from "./table.js";

/** @param file where they are from, if there is one */
export async function check(settings: Settings, file: string | undefined, print: boolean): Promise<void> {
  if (settings.tls !== undefined) readTls(settings.tls, Date.now());
  usersOf(settings.providers);
  if (print) return writeText(effectiveText(settings));
  const { metricsListen, config, tls } = settings;
  await writeLines([
    `${file ?? "The configuration, without a file,"} can be used.`,
    "",
    ...factLines([
      ["data", settings.data],
      ["broker", `${describeAddress(settings.listen, tls !== undefined)}, ${settings.socket}`],
      ["adapter", describeAddress(settings.adapterListen, tls !== undefined)],
      ["metrics", metricsListen === undefined ? "nowhere" : `${describeAddress(metricsListen)}/metrics`],
      ["workspaces", settings.workspaces],
      ["backups", settings.backups],
      ["providers", config.providers.map(({ id }) => id).join(", ") || "whatever agent is found, and echo"],
      ["credentials", config.credentials.map(({ name }) => name).join(", ")],
      ["scope rules", config.scopes.map(({ pattern }) => pattern).join(", ")],
    ]),
  ]);
}
