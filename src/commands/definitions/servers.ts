/** The commands that serve until they are stopped, and what to ask before. */
import type { Recovery } from "../../opening.js";
import { describeAddress } from "../process.js";
import { type Command, type Given, type OptionTable, UsageError } from "./definition.js";
import { brokerOption, overridesOf, settingsOf, settingsOptions } from "./settings.js";

/** What to do if the store is damaged. */
const recoveryOptions = {
  restore: {
    type: "string",
    value: "NAME",
    help: 'if the store is damaged or gone: go on from this backup, or from\nthe newest with "latest"; the damaged store is set aside',
  },
  "start-empty": {
    type: "boolean",
    help: "if the store is damaged: set it aside and begin an empty one",
  },
} as const satisfies OptionTable;

/** @throws UsageError */
function recoveryOf(given: Given): Recovery {
  const name = given.text("restore");
  const empty = given.flag("start-empty");
  if (name !== undefined && empty) throw new UsageError("--restore and --start-empty exclude each other");
  if (name !== undefined) return { kind: "restore", name };
  return { kind: empty ? "start-empty" : "refuse" };
}

export const serverCommands: readonly Command[] = [
  {
    name: "start",
    summary: "the broker and the OpenAI-compatible adapter together, for a first try",
    details: "Prints a line to paste once both answer.",
    options: { ...recoveryOptions, ...settingsOptions },
    async run(given) {
      recoveryOf(given);
      const { start } = await import("../start.js");
      const ofBroker = given.wordsOf(Object.keys(recoveryOptions));
      await start(await settingsOf(given), given.wordsOf(Object.keys(settingsOptions)), ofBroker);
      return 0;
    },
  },
  {
    name: "serve",
    summary: "the broker: Connect, gRPC and gRPC-Web",
    details: `SIGTERM and Ctrl-C let running turns end for 30 s first; a second one does not. SIGHUP reads
the configuration and the tokens again: the log says what is in force and what needs a
restart. Ends with 3, and leaves everything as it is, if the store is damaged and neither
--restore nor --start-empty says what to do; a sound store is used whatever they say.`,
    options: { ...recoveryOptions, ...settingsOptions },
    async run(given) {
      const { serve } = await import("../serve.js");
      const { loadSettings } = await import("../../config/config.js");
      const reread = () => loadSettings(overridesOf(given));
      await serve(await settingsOf(given), reread, recoveryOf(given));
      return 0;
    },
  },
  {
    name: "openai",
    summary: "the OpenAI-compatible adapter, in front of a broker",
    options: {
      broker: {
        ...brokerOption.broker,
        help: "the broker to ask: http://host:port, https://… or unix:PATH; default:\nthe one that --listen names, or with tls the one behind --socket",
      },
      ...settingsOptions,
    },
    async run(given) {
      const { openai } = await import("../openai.js");
      const settings = await settingsOf(given);
      const { adapterListen, listen, socket, origins, fetching, tls } = settings;
      const broker = given.text("broker") ?? (tls === undefined ? describeAddress(listen) : `unix:${socket}`);
      await openai({
        listen: adapterListen,
        broker,
        origins,
        fetching,
        ...(tls === undefined ? {} : { tls }),
      });
      return 0;
    },
  },
  {
    name: "check",
    summary: "whether the configuration can be used, and what is wrong in it",
    details: "Ends with 2 and a line for each problem if it cannot be used: file, line, column, field.",
    options: {
      "print-config": {
        type: "boolean",
        help: "print what is in force, with every default, and with\nsecrets as digests",
      },
      ...settingsOptions,
    },
    async run(given) {
      const { check } = await import("../check.js");
      await check(await settingsOf(given), overridesOf(given).config, given.flag("print-config"));
      return 0;
    },
  },
  {
    name: "verify",
    summary: "whether the store of a data directory is sound, entry by entry",
    details: `Reads checksums, every index entry against its row, and every row against its indexes,
and changes nothing. A store that is in use is read as it is at one moment. Ends with 1
if something is wrong.`,
    options: {
      json: { type: "boolean", help: "one JSON object instead of a table" },
      ...settingsOptions,
    },
    async run(given) {
      const { verify } = await import("../verify.js");
      return verify(await settingsOf(given), given.flag("json"));
    },
  },
  {
    name: "doctor",
    summary: "whether the providers can work here, and what to do if not",
    details: "Ends with 1 if the default provider cannot work.",
    options: {
      json: { type: "boolean", help: "one JSON object a line instead of words" },
      ...settingsOptions,
    },
    async run(given) {
      const { doctor } = await import("../doctor.js");
      return doctor(await settingsOf(given), given.environment, given.flag("json"));
    },
  },
];
