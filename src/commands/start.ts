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
import { describeAddress, stopWithInput, untilStopped } from "./process.js";

/** A part could not be started, or has ended by itself; it has said why. */
export class PartEnded extends Error {
  override readonly name = "PartEnded";
}

interface Part {
  readonly child: ChildProcess;
  /** Rejects when it ends. */
  readonly ended: Promise<never>;
}

export async function start(settings: Settings, passedOn: readonly string[]): Promise<void> {
  const stop = untilStopped();
  const children: ChildProcess[] = [];
  try {
    const broker = await launch("serve", passedOn, children);
    const adapter = await launch("openai", [...passedOn, "--broker", `unix:${settings.socket}`], children);
    process.stdout.write(greeting(settings));
    stop.second.then(() => signalAll(children));
    await Promise.race([stop.first, broker.ended, adapter.ended]);
  } finally {
    await endAll(children);
  }
}

/** Starts a command of this program; resolves once it says that it listens. */
async function launch(command: string, args: readonly string[], children: ChildProcess[]): Promise<Part> {
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
      reject(new PartEnded(`session-broker ${command} ended ${how}`));
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
