#!/usr/bin/env node
/** The command line. Exit codes: 0 done, 1 failed, 2 called or configured wrongly. */
import { parseArgs } from "node:util";
import { openai } from "./commands/openai.js";
import { describeAddress } from "./commands/process.js";
import { serve } from "./commands/serve.js";
import { start } from "./commands/start.js";
import { ConfigError, loadSettings, type Overrides } from "./config/config.js";
import { ListenError } from "./server/listen-error.js";
import { DamagedStore } from "./store/lmdb/marker.js";
import { StoreInUse } from "./store/lmdb/owner.js";
import { version } from "./version.js";

const usage = `Usage: session-broker <command> [options]

Keeps which chat is which agent session, and lets one turn at a time into each.

Commands
  start     the broker and the OpenAI-compatible adapter together, for a first try
  serve     the broker: Connect, gRPC and gRPC-Web
  openai    the OpenAI-compatible adapter, in front of a broker

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
  --broker URL           the broker that the adapter asks: http://host:port or
                         unix:PATH                        (SESSION_BROKER_BROKER)
                         default: the one that --listen names
  --version, --help

SESSION_BROKER_LOG_LEVEL is one of trace, debug, info (default), warn, error.
`;

const options = {
  config: { type: "string" },
  data: { type: "string" },
  listen: { type: "string" },
  socket: { type: "string" },
  "openai-listen": { type: "string" },
  broker: { type: "string" },
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
  const [command, ...more] = positionals;
  if (command === undefined) throw new UsageError("a command is needed");
  if (more.length > 0) throw new UsageError(`unexpected ${JSON.stringify(more[0])}`);
  const env = process.env;
  const overrides: Overrides = {
    config: values.config ?? env.SESSION_BROKER_CONFIG,
    data: values.data ?? env.SESSION_BROKER_DATA,
    listen: values.listen ?? env.SESSION_BROKER_LISTEN,
    socket: values.socket ?? env.SESSION_BROKER_SOCKET,
    adapterListen: values["openai-listen"] ?? env.SESSION_BROKER_OPENAI_LISTEN,
  };
  switch (command) {
    case "serve":
      return serve(loadSettings(overrides));
    case "openai": {
      const settings = loadSettings(overrides);
      const broker = values.broker ?? env.SESSION_BROKER_BROKER ?? describeAddress(settings.listen);
      return openai({ listen: settings.adapterListen, broker });
    }
    case "start":
      return start(
        loadSettings(overrides),
        args.filter((argument) => argument !== "start"),
      );
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

function print(text: string): void {
  process.stdout.write(text);
}

/** Errors that the message explains; anything else is shown with its trace. */
const explained = [ConfigError, ListenError, StoreInUse, DamagedStore];

main(process.argv.slice(2)).then(
  () => process.exit(0),
  (error: unknown) => {
    const known = explained.some((kind) => error instanceof kind) || error instanceof UsageError;
    const text =
      error instanceof Error ? (known ? error.message : (error.stack ?? error.message)) : String(error);
    const hint = error instanceof UsageError ? "; see session-broker --help" : "";
    process.stderr.write(`session-broker: ${text}${hint}\n`);
    process.exit(error instanceof UsageError || error instanceof ConfigError ? 2 : 1);
  },
);
