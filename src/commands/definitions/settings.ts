/** The options that every command has, and what they come to. */
import type { Overrides, Settings } from "../../config/config.js";
import type { BrokerAccess } from "../broker-client.js";
import type { Given, OptionTable } from "./definition.js";

export const settingsOptions = {
  config: {
    type: "string",
    value: "FILE",
    environment: "SESSION_BROKER_CONFIG",
    help: "settings in YAML",
  },
  data: {
    type: "string",
    value: "DIR",
    environment: "SESSION_BROKER_DATA",
    help: "store, tokens and socket; default: ./.session-broker",
  },
  listen: {
    type: "string",
    value: "HOST:PORT",
    environment: "SESSION_BROKER_LISTEN",
    help: "where the broker listens; default: 127.0.0.1:7410",
  },
  socket: {
    type: "string",
    value: "PATH",
    environment: "SESSION_BROKER_SOCKET",
    help: "unix socket of the broker; default: broker.sock in the data\ndirectory",
  },
  "openai-listen": {
    type: "string",
    value: "HOST:PORT",
    environment: "SESSION_BROKER_OPENAI_LISTEN",
    help: "where the adapter listens; default: 127.0.0.1:7411",
  },
  "metrics-listen": {
    type: "string",
    value: "HOST:PORT",
    environment: "SESSION_BROKER_METRICS_LISTEN",
    help: "where the broker shows metrics; default: 127.0.0.1:7412;\noff: nowhere",
  },
} as const satisfies OptionTable;

/** Of the adapter, and of the commands that ask a running broker. */
export const brokerOption = {
  broker: {
    type: "string",
    value: "URL",
    environment: "SESSION_BROKER_BROKER",
    help: "the broker to ask: http://host:port or unix:PATH; default: the one\nbehind --socket, if it is there, else the one that --listen names",
  },
} as const satisfies OptionTable;

export const jsonOption = {
  json: { type: "boolean", help: "one JSON object a line instead of a table" },
} as const satisfies OptionTable;

export const tokenNote =
  "Asks with the token in SESSION_BROKER_TOKEN, or else in admin-token of the data\ndirectory.";

export function overridesOf(given: Given): Overrides {
  return {
    config: given.text("config"),
    data: given.text("data"),
    listen: given.text("listen"),
    socket: given.text("socket"),
    adapterListen: given.text("openai-listen"),
    metricsListen: given.text("metrics-listen"),
  };
}

/** @throws ConfigError */
export async function settingsOf(given: Given): Promise<Settings> {
  const { loadSettings } = await import("../../config/config.js");
  return loadSettings(overridesOf(given));
}

/** @throws ConfigError, CommandError */
export async function accessOf(given: Given): Promise<BrokerAccess> {
  const { brokerAccess } = await import("../broker-client.js");
  return brokerAccess(await settingsOf(given), given.text("broker"), given.environment.SESSION_BROKER_TOKEN);
}
