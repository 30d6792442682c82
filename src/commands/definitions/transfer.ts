/** The commands that move sessions, and the one that sums up what they took. */
import { type Format, formats } from "../import/formats.js";
import type { BackupSource } from "../restore.js";
import { type Command, type Given, UsageError } from "./definition.js";
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
    operands: ["[FILE]"],
    summary: "a consistent copy of the store of a running broker, as a file or under a name",
    details: `The copy is there only if it is whole, on disk, and was read once. One that exists already
stays as it is. A credential with the role admin and the scope "*" is needed.

${tokenNote}`,
    options: {
      name: { type: "string", value: "NAME", help: "in the broker's directory of backups, instead of FILE" },
      ...brokerOption,
      ...settingsOptions,
    },
    async run(given) {
      const source = fileOrName(given);
      const { backup, keepBackup } = await import("../backup.js");
      const access = await accessOf(given);
      if (source.kind === "file") await backup(access, source.file);
      else await keepBackup(access, source.name);
      return 0;
    },
  },
  {
    name: "restore",
    operands: ["[FILE]"],
    summary: "makes the store of a data directory from a backup",
    details: `No broker runs there meanwhile, and the directory has no store yet. Turns that had not
ended in the backup end INTERRUPTED, reason RESTORED; tokens are not part of it.`,
    options: {
      name: {
        type: "string",
        value: "NAME",
        help: 'from the directory of backups, or the newest there with\n"latest", instead of FILE',
      },
      ...settingsOptions,
    },
    async run(given) {
      const source = fileOrName(given);
      const { restore } = await import("../restore.js");
      await restore(await settingsOf(given), source);
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

/** One of both. @throws UsageError */
function fileOrName(given: Given): BackupSource {
  const [file] = given.operands;
  const name = given.text("name");
  if (file !== undefined && name === undefined) return { kind: "file", file };
  if (name !== undefined && file === undefined) return { kind: "name", name };
  throw new UsageError("either FILE or --name is needed");
}

function formatOf(name = "auto"): Format | "auto" {
  const known = (["auto", ...formats] as const).find((format) => format === name);
  if (known === undefined) throw new UsageError(`there is no format ${JSON.stringify(name)}`);
  return known;
}
