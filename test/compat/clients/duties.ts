/** What every client must find: the same questions, asked through each of them. */
import { randomUUID } from "node:crypto";
import { expect, it } from "vitest";
import type { ChatOptions, RealClient, Told } from "./client.js";

/** Where the clients ask: an agent that answers with the prompts that its conversation holds. */
export type Server = Pick<ChatOptions, "baseURL" | "token" | "model">;

/** @param client is asked for in each test, for those that are there only then */
export function checkDuties(client: () => RealClient, server: () => Server): void {
  const open = (changes: Partial<ChatOptions> = {}) =>
    client().open({ ...server(), headers: {}, ...changes });
  const message = (word: string) => `${word} ${randomUUID()}`;

  for (const stream of [false, true]) {
    const way = stream ? "streamed" : "whole";

    it(`is answered, ${way}, with the tokens that were used`, async () => {
      const one = message("one");
      const told = await open().say(one, { stream });
      expect(told.text).toBe(answerTo(one));
      if (stream) expect(told.pieces).toBeGreaterThan(1);
      expect(told.inputTokens).toBeGreaterThan(0);
      expect(told.outputTokens).toBeGreaterThan(0);
    });

    it(`has a memory without any header, ${way}: it sends its history, and the agent is sent what is new`, async () => {
      const chat = open();
      const said = [message("one"), message("two"), message("three")];
      let told: Told | undefined;
      for (const text of said) told = await chat.say(text, { stream });
      expect(told?.text).toBe(answerTo(...said));
    });

    it(`has a memory by a key, ${way}, though it sends one message at a time`, async () => {
      const chat = open({ headers: { "x-session-broker-key": randomUUID() } });
      const said = [message("one"), message("two")];
      let told: Told | undefined;
      for (const text of said) told = await chat.say(text, { stream, alone: true });
      expect(told?.text).toBe(answerTo(...said));
    });

    it(`has errors of its own, ${way}, for an unknown model and for a wrong token`, async () => {
      const { failures } = client();
      expect(await failing({ model: "nobody" }, stream)).toEqual({
        type: failures.unknownModel,
        status: 404,
      });
      expect(await failing({ token: "wrong" }, stream)).toEqual({ type: failures.badToken, status: 401 });
    });
  }

  async function failing(changes: Partial<ChatOptions>, stream: boolean) {
    const error = await open(changes)
      .say(message("one"), { stream })
      .then(
        ({ text }) => new Error(`it was answered: ${text}`),
        (error: unknown) => error,
      );
    return client().failureOf(error);
  }
}

const answerTo = (...said: readonly string[]) => `turns=${said.length} history=${JSON.stringify(said)}`;
