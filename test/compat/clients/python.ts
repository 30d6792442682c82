/** The Python clients: one process for each, which is asked and answers in lines. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { fileURLToPath } from "node:url";
import type { Chat, ChatOptions, Failure, RealClient, Told } from "./client.js";

const program = fileURLToPath(new URL("client.py", import.meta.url));

interface Message {
  readonly role: "user" | "assistant";
  readonly content: string;
}

type Answer = Told | { readonly failure: Failure & { readonly message: string } };

class PythonError extends Error {
  constructor(readonly failure: Failure & { readonly message: string }) {
    super(failure.message);
  }
}

/** A client that runs in a process until it is closed. */
export class PythonClient implements RealClient {
  readonly failures = { unknownModel: "NotFoundError", badToken: "AuthenticationError" };
  readonly #child: ChildProcess & { readonly stdin: Writable; readonly stdout: Readable };
  readonly #answers: AsyncIterator<string>;

  /** @param kind a word that client.py knows */
  constructor(
    readonly name: string,
    python: string,
    kind: string,
    home: string,
  ) {
    // LiteLLM would else fetch a list of prices when it is loaded.
    const env = { PATH: process.env.PATH ?? "", HOME: home, LITELLM_LOCAL_MODEL_COST_MAP: "True" };
    this.#child = spawn(python, [program, kind], { env, stdio: ["pipe", "pipe", "inherit"] });
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  open(options: ChatOptions): Chat {
    const history: Message[] = [];
    return {
      say: async (content, { stream = false, alone = false } = {}) => {
        const asked: Message = { role: "user", content };
        const messages = alone ? [asked] : [...history, asked];
        const told = await this.#ask({ options, messages, stream });
        history.push(asked, { role: "assistant", content: told.text });
        return told;
      },
    };
  }

  failureOf(error: unknown): Failure {
    if (!(error instanceof PythonError)) throw error;
    const { type, status } = error.failure;
    return { type, status };
  }

  async close(): Promise<void> {
    const ended = once(this.#child, "exit");
    this.#child.stdin.end();
    await ended;
  }

  /** One at a time. */
  async #ask(request: object): Promise<Told> {
    this.#child.stdin.write(`${JSON.stringify(request)}\n`);
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error(`${this.name} ended`);
    const answer: Answer = JSON.parse(value);
    if ("failure" in answer) throw new PythonError(answer.failure);
    return answer;
  }
}
