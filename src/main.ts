#!/usr/bin/env node
/** The command line. Exit codes: 0 done, 1 failed, 2 called or configured wrongly. */
import { parseArgs } from "node:util";
import type { BrokerAccess } from "./commands/broker-client.js";
import { type Format, formats } from "./commands/import/formats.js";
import { describeAddress } from "./commands/process.js";
import type { Overrides, Settings } from "./config/config.js";
import { version } from "./version.js";

const usage = `Usage: session-broker <command> [options]

Keeps which chat is which agent session, and lets one turn at a time into each.

Commands
  start     the broker and the OpenAI-compatible adapter together, for a first try
  serve     the broker: Connect, gRPC and gRPC-Web
  openai    the OpenAI-compatible adapter, in front of a broker
  usage     tokens and cost by day, scope and provider, from a running broker
  doctor    whether the providers can work here, and what to do if not. Ends with 1
            if the default one cannot
  export    the sessions of a running broker, one JSON object a line
  import FILE
            sessions into a running broker: an export, TokenPak's session_map.db
            or OpenClaw's sessions.json. Ends with 0 if every row was created or
            kept, and with 1 if one was conflicting or rejected

Options
  --config FILE          settings in YAML                 (SESSION_BROKER_CONFIG)
  --data DIR             store, tokens and socket         (SESSION_BROKER_DATA)
                         default: ./.session-broker
  --listen HOST:PORT     where the broker listens         (SESSION_BROKER_LISTEN)
                         default: 127.0.0.1:7410
  --socket PATH          unix socket of the broker        (SESSION_BROKER_SOCKET)
                         default: broker.sock in the data directory
  --openai-listen HOST:PORT
                         where the adapter listens        (SESSION_BROKER_OPENAI_LISTEN)
                         default: 127.0.0.1:7411
  --metrics-listen HOST:PORT
                         where the broker shows metrics   (SESSION_BROKER_METRICS_LISTEN)
                         default: 127.0.0.1:7412; off: nowhere
  --broker URL           the broker that the adapter and the commands ask:
                         http://host:port or unix:PATH    (SESSION_BROKER_BROKER)
                         default: the one that --listen names; for usage,
                         export and import the one behind --socket, if it is
                         there
  --version, --help

Options of usage
  --since DAY, --until DAY
                         first and last day, YYYY-MM-DD, UTC; default: 30 days ago
                         and today
  --scope S, --provider P
                         only these
  --json                 one JSON object a line instead of a table

Options of doctor
  --json                 one JSON object a line instead of words

Options of export and import
  --scope S, --provider P
                         export: only sessions of these. import: put the rows
                         there, whatever the file says
  --archived             export archived sessions as well
  --output FILE          export to a file instead of standard output
  --format FORMAT        auto (default), sessions, tokenpak or openclaw
  --json                 report an import as JSON

usage, export and import ask with the token in admin-token of the data directory, or in
SESSION_BROKER_TOKEN. SESSION_BROKER_LOG_LEVEL is one of trace, debug, info (default), warn, error.
`;

const options = {
  config: { type: "string" },
  data: { type: "string" },
  listen: { type: "string" },
  socket: { type: "string" },
  "openai-listen": { type: "string" },
  "metrics-listen": { type: "string" },
  broker: { type: "string" },
  scope: { type: "string" },
  provider: { type: "string" },
  archived: { type: "boolean" },
  output: { type: "string" },
  format: { type: "string" },
  since: { type: "string" },
  until: { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
  version: { type: "boolean" },
} as const;

class UsageError extends Error {
  override readonly name = "UsageError";
}

async function main(args: readonly string[]): Promise<void> {
  const { values, positionals } = parse(args);
  if (values.version === true) return print(`${version}\n`);
  if (values.help === true) return print(usage);
  const [command, ...words] = positionals;
  if (command === undefined) throw new UsageError("a command is needed");
  const [file, ...more] = command === "import" ? words : [undefined, ...words];
  if (more.length > 0) throw new UsageError(`unexpected ${JSON.stringify(more[0])}`);
  const env = process.env;
  const overrides: Overrides = {
    config: values.config ?? env.SESSION_BROKER_CONFIG,
    data: values.data ?? env.SESSION_BROKER_DATA,
    listen: values.listen ?? env.SESSION_BROKER_LISTEN,
    socket: values.socket ?? env.SESSION_BROKER_SOCKET,
    adapterListen: values["openai-listen"] ?? env.SESSION_BROKER_OPENAI_LISTEN,
    metricsListen: values["metrics-listen"] ?? env.SESSION_BROKER_METRICS_LISTEN,
  };
  const broker = values.broker ?? env.SESSION_BROKER_BROKER;
  // Each command loads what it needs: an adapter has no use for the store.
  switch (command) {
    case "serve": {
      const { serve } = await import("./commands/serve.js");
      return serve(await settingsOf(overrides));
    }
    case "openai": {
      const { openai } = await import("./commands/openai.js");
      const settings = await settingsOf(overrides);
      return openai({ listen: settings.adapterListen, broker: broker ?? describeAddress(settings.listen) });
    }
    case "usage": {
      const { scope = "", provider = "", json = false } = values;
      const days = { since: dayOf("since", values.since), until: dayOf("until", values.until) };
      const { showUsage } = await import("./commands/usage.js");
      return showUsage({
        access: await accessTo(broker, overrides),
        filter: { scope, provider },
        ...days,
        json,
      });
    }
    case "doctor": {
      const { doctor } = await import("./commands/doctor.js");
      const { json = false } = values;
      process.exitCode = await doctor(await settingsOf(overrides), process.env, json);
      return;
    }
    case "export": {
      const { exportSessions } = await import("./commands/export.js");
      const { scope = "", provider = "", archived = false } = values;
      const filter = { scope, provider, includeArchived: archived };
      return exportSessions({ access: await accessTo(broker, overrides), filter, output: values.output });
    }
    case "import": {
      if (file === undefined) throw new UsageError("import needs a file");
      const { scope, provider, json = false } = values;
      const format = formatOf(values.format);
      const { importSessions } = await import("./commands/import.js");
      process.exitCode = await importSessions({
        access: await accessTo(broker, overrides),
        file,
        format,
        placement: { scope, provider },
        json,
      });
      return;
    }
    case "start": {
      const { start } = await import("./commands/start.js");
      return start(
        await settingsOf(overrides),
        args.filter((argument) => argument !== "start"),
      );
    }
    default:
      throw new UsageError(`there is no command ${JSON.stringify(command)}`);
  }
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options, allowPositionals: true });
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
}

async function settingsOf(overrides: Overrides): Promise<Settings> {
  const { loadSettings } = await import("./config/config.js");
  return loadSettings(overrides);
}

async function accessTo(broker: string | undefined, overrides: Overrides): Promise<BrokerAccess> {
  const { brokerAccess } = await import("./commands/broker-client.js");
  return brokerAccess(await settingsOf(overrides), broker, process.env.SESSION_BROKER_TOKEN);
}

function formatOf(name = "auto"): Format | "auto" {
  const known = (["auto", ...formats] as const).find((format) => format === name);
  if (known === undefined) throw new UsageError(`there is no format ${JSON.stringify(name)}`);
  return known;
}

/** The start of a day, UTC, in milliseconds. */
function dayOf(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = /^\d{4}-\d\d-\d\d$/.test(text) ? Date.parse(text) : Number.NaN;
  // A day that its month does not have is read as one of the next month.
  if (Number.isNaN(ms) || !new Date(ms).toISOString().startsWith(text)) {
    throw new UsageError(`--${flag}: ${JSON.stringify(text)} is no day such as 2026-01-31`);
  }
  return ms;
}

function print(text: string): void {
  process.stdout.write(text);
}

/** Errors that the message explains, by name; anything else is shown with its trace. */
const explained = new Set([
  "CommandError",
  "ConfigError",
  "DamagedStore",
  "ListenError",
  "PartEnded",
  "StoreInUse",
  "UsageError",
]);
const wronglyCalled = new Set(["ConfigError", "UsageError"]);

main(process.argv.slice(2)).then(
  () => process.exit(),
  (error: unknown) => {
    const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
    const text = explained.has(name) ? message : (stack ?? message);
    const hint = name === "UsageError" ? "; see session-broker --help" : "";
    process.stderr.write(`session-broker: ${text}${hint}\n`);
    process.exit(wronglyCalled.has(name) ? 2 : 1);
  },
);
