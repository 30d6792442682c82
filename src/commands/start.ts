/**
 * `session-broker start`: broker and adapter as two processes under this one,
 * for a first try. Prints a line to paste once both answer.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import type { Settings } from "../config/config.js";
import { headerFile, tokenFile } from "../config/tokens.js";
import { createProviders } from "../providers/registry.js";
import { needVerify } from "../store/lmdb/last-run.js";
import { describeAddress, stopWithInput, untilStopped } from "./process.js";

/** A part could not be started, or has ended by itself; it has said why. */
export class PartEnded extends Error {
  override readonly name = "PartEnded";

  constructor(
    message: string,
    /** Null if a signal ended it. */
    readonly code: number | null,
  ) {
    super(message);
  }
}

/** Signals of a process that went wrong by itself. */
const crashes: ReadonlySet<unknown> = new Set([
  "SIGSEGV",
  "SIGBUS",
  "SIGABRT",
  "SIGILL",
  "SIGFPE",
  "SIGTRAP",
]);

interface Part {
  readonly child: ChildProcess;
  /** Rejects when it ends. */
  readonly ended: Promise<never>;
}

/** @param ofBroker options that the broker has and the adapter has not */
export async function start(
  settings: Settings,
  passedOn: readonly string[],
  ofBroker: readonly string[],
): Promise<void> {
  const stop = untilStopped();
  const children: ChildProcess[] = [];
  try {
    const onCrash = (signal: string) => needVerify(settings.data, `the broker was ended by ${signal}`);
    const broker = await launch("serve", [...passedOn, ...ofBroker], children, onCrash);
    const adapter = await launch("openai", [...passedOn, "--broker", `unix:${settings.socket}`], children);
    process.stdout.write(greeting(settings));
    stop.second.then(() => signalAll(children));
    await Promise.race([stop.first, broker.ended, adapter.ended]);
  } finally {
    await endAll(children);
  }
}

/** Starts a command of this program; resolves once it says that it listens. */
async function launch(
  command: string,
  args: readonly string[],
  children: ChildProcess[],
  onCrash: (signal: string) => void = () => {},
): Promise<Part> {
  const main = fileURLToPath(new URL("../main.js", import.meta.url));
  // A group of its own: an interrupt from the keyboard reaches it through this process, in order.
  const child = spawn(process.execPath, [main, command, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
    detached: true,
    env: { ...process.env, [stopWithInput]: "1" },
  });
  children.push(child);
  const ended = new Promise<never>((_, reject) => {
    child.once("error", reject);
    child.once("exit", (code, signal) => {
      const how = signal === null ? `with code ${code}` : `by ${signal}`;
      if (signal !== null && crashes.has(signal)) onCrash(signal);
      reject(new PartEnded(`session-broker ${command} ended ${how}`, code));
    });
  });
  // It may end when nobody waits for it any more.
  ended.catch(() => {});
  await Promise.race([once(child.stdout, "data"), ended]);
  return { child, ended };
}

/** The adapter first, so that its streams end before the broker drains. */
async function endAll(children: readonly ChildProcess[]): Promise<void> {
  for (const child of [...children].reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }
}

function signalAll(children: readonly ChildProcess[]): void {
  for (const child of children) child.kill("SIGTERM");
}

function greeting(settings: Settings): string {
  const [agent] = createProviders(settings.providers, process.env).keys();
  const { tls } = settings;
  const [broker, adapter] = [settings.listen, settings.adapterListen].map((address) =>
    describeAddress(address, tls !== undefined),
  );
  const header = relative(process.cwd(), headerFile(tokenFile(settings.data)));
  const body = JSON.stringify({ model: agent, messages: [{ role: "user", content: "My name is Ada." }] });
  const other = agent === "echo" ? "" : ` Say "model":"echo" to be answered without an agent.`;
  return [
    "",
    `session-broker answers on ${broker} (Connect, gRPC, gRPC-Web) and ${adapter}/v1 (OpenAI).`,
    `The agent is ${agent}.${other} Try, twice:`,
    "",
    `curl -sS ${adapter}/v1/chat/completions -H @${quoted(header)} -H "Content-Type: application/json" -H "X-Session-Broker-Key: first-chat" -d '${body}'`,
    "",
    "",
  ].join("\n");
}

/** As one word of a shell. */
function quoted(word: string): string {
  return /^[\w./][\w./-]*$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
