/** The commands that move sessions, and the one that sums up what they took. */
import { type Format, formats } from "../import/formats.js";
import { type Command, UsageError } from "./definition.js";
import { accessOf, brokerOption, jsonOption, settingsOf, settingsOptions, tokenNote } from "./settings.js";

export const transferCommands: readonly Command[] = [
  {
    name: "usage",
    summary: "tokens and cost by day, scope and provider",
    details: tokenNote,
    options: {
      since: { type: "string", value: "DAY", help: "first day, YYYY-MM-DD, UTC; default: 30 days ago" },
      until: { type: "string", value: "DAY", help: "last day; default: today" },
      scope: { type: "string", value: "S", help: "only this scope; acme/*: all below it" },
      provider: { type: "string", value: "P", help: "only this provider" },
      ...jsonOption,
      ...brokerOption,
      ...settingsOptions,
    },
    async run(given) {
      const days = { since: given.day("since"), until: given.day("until") };
      const { showUsage } = await import("../usage.js");
      const filter = { scope: given.text("scope") ?? "", provider: given.text("provider") ?? "" };
      await showUsage({ access: await accessOf(given), filter, ...days, json: given.flag("json") });
      return 0;
    },
  },
  {
    name: "export",
    summary: "the sessions of a running broker, one JSON object a line",
    details: tokenNote,
    options: {
      scope: { type: "string", value: "S", help: "only sessions of this scope; acme/*: all below it" },
      provider: { type: "string", value: "P", help: "only sessions of this provider" },
      archived: { type: "boolean", help: "archived sessions as well" },
      output: { type: "string", value: "FILE", help: "instead of standard output" },
      ...brokerOption,
      ...settingsOptions,
    },
    async run(given) {
      const { exportSessions } = await import("../export.js");
      const filter = {
        scope: given.text("scope") ?? "",
        provider: given.text("provider") ?? "",
        includeArchived: given.flag("archived"),
      };
      await exportSessions({ access: await accessOf(given), filter, output: given.text("output") });
      return 0;
    },
  },
  {
    name: "backup",
    operands: ["FILE"],
    summary: "a consistent copy of the store of a running broker, as a file",
    details: `The file is there only if it is whole, on disk, and was read once. One that exists already
stays as it is. A credential with the role admin and the scope "*" is needed.

${tokenNote}`,
    options: { ...brokerOption, ...settingsOptions },
    async run(given) {
      const { backup } = await import("../backup.js");
      await backup(await accessOf(given), given.operands[0] ?? "");
      return 0;
    },
  },
  {
    name: "restore",
    operands: ["FILE"],
    summary: "makes the store of a data directory from a backup",
    details: `No broker runs there meanwhile, and the directory has no store yet. Turns that had not
ended in the backup end INTERRUPTED, reason RESTORED; tokens are not part of it.`,
    options: settingsOptions,
    async run(given) {
      const { restore } = await import("../restore.js");
      await restore(await settingsOf(given), given.operands[0] ?? "");
      return 0;
    },
  },
  {
    name: "import",
    operands: ["FILE"],
    summary: "sessions into a running broker",
    details: `The file is an export, TokenPak's session_map.db or OpenClaw's sessions.json. Ends with
0 if every row was created or kept, and with 1 if one was conflicting or rejected.

${tokenNote}`,
    options: {
      scope: { type: "string", value: "S", help: "put the rows into this scope, whatever the file says" },
      provider: { type: "string", value: "P", help: "and under this provider" },
      format: { type: "string", value: "FORMAT", help: "auto (default), sessions, tokenpak or openclaw" },
      json: { type: "boolean", help: "report as JSON" },
      ...brokerOption,
      ...settingsOptions,
    },
    async run(given) {
      const format = formatOf(given.text("format"));
      const { importSessions } = await import("../import.js");
      return importSessions({
        access: await accessOf(given),
        file: given.operands[0] ?? "",
        format,
        placement: { scope: given.text("scope"), provider: given.text("provider") },
        json: given.flag("json"),
      });
    },
  },
];

function formatOf(name = "auto"): Format | "auto" {
  const known = (["auto", ...formats] as const).find((format) => format === name);
  if (known === undefined) throw new UsageError(`there is no format ${JSON.stringify(name)}`);
  return known;
}
