/**
 * A model service that answers as its user asks, line by line:
 * `say a|b`, `think a|b`, `hold` (until the test lets go), `cut` (too long),
 * `fail`. Anything else is repeated.
 */
import { ModelService, type ServiceCall, sendError, stream } from "../support/model-service.js";

export class ScriptedService implements AsyncDisposable {
  readonly #waiting: (() => void)[] = [];
  #held: (() => void) | undefined;

  private constructor(readonly service: ModelService) {}

  static async start(): Promise<ScriptedService> {
    const service = await ModelService.start(async (call) => {
      if (!call.path.endsWith("/chat/completions")) return sendError(call, 404, { message: "no such path" });
      const script = String(call.body.messages.at(-1)?.content ?? "");
      if (script === "fail") return sendError(call, 429, { message: "slow down" }, { "retry-after": "7" });
      const chunk = (delta: unknown, finish_reason: string | null = null) => ({
        model: "scripted",
        choices: [{ index: 0, delta, finish_reason }],
      });
      let finish = "stop";
      for (const line of script.split("\n")) {
        const [verb = "", ...rest] = line.split(" ");
        const pieces = rest.join(" ").split("|");
        if (verb === "think") stream(call, ...pieces.map((text) => chunk({ reasoning_content: text })));
        else if (verb === "say") stream(call, ...pieces.map((content) => chunk({ content })));
        else if (verb === "cut") finish = "length";
        else if (verb === "hold") await Promise.race([scripted.#hold(), call.closed]);
        else stream(call, chunk({ content: line }));
      }
      stream(
        call,
        chunk({}, finish),
        { model: "scripted", choices: [], usage: { prompt_tokens: 9, completion_tokens: 4 } },
        "[DONE]",
      );
      return call.response.end();
    });
    const scripted = new ScriptedService(service);
    return scripted;
  }

  /** What was asked, question by question; a provider looks for the service, too. */
  get asked(): readonly ServiceCall["body"][] {
    return this.service.calls.flatMap(({ path, body }) => (path.endsWith("/chat/completions") ? [body] : []));
  }

  /** A provider of a broker, `scripted`. */
  get provider(): object {
    return { id: "scripted", openai: { baseUrl: this.service.url }, models: ["small", "large"] };
  }

  /** Resolves once an answer holds. */
  async held(): Promise<void> {
    if (this.#waiting.length > 0) return;
    await new Promise<void>((resolve) => {
      this.#held = resolve;
    });
  }

  /** Lets all go on that hold. */
  letGo(): void {
    for (const resume of this.#waiting.splice(0)) resume();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.letGo();
    await this.service[Symbol.asyncDispose]();
  }

  #hold(): Promise<void> {
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#held?.();
      this.#held = undefined;
    });
  }
}
