/** Readers that stop reading in the middle of a large turn. */
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, expect, it } from "vitest";
import type { TurnEvent } from "../../gen/sessionbroker/v1/turn_pb.js";
import { type BrokerClient, TestBroker } from "../support/broker.js";

/** 4 MB in 100,000 events. */
const text = Array.from({ length: 100_000 }, (_, i) => `word-${i}-${"x".repeat(28)}`).join(" ");
const slowReaders = 24;
/** Less than a copy of the text for each of them, let alone of its events. */
const mostBytes = 2 * slowReaders * text.length;

let broker: TestBroker;
let client: BrokerClient;

beforeEach(async () => {
  broker = await TestBroker.start();
  client = broker.client();
});

afterEach(() => broker.close());

const requestOf = (chat: string, input: string) => ({
  target: { case: "key" as const, value: { scope: "acme", externalId: chat, provider: "echo" } },
  turnId: chat,
  input: [{ part: { case: "text" as const, value: input } }],
});

/** A reader that reads only when it is told to, and checks that nothing is missing or doubled. */
class Reader {
  readonly #stream: AsyncIterator<{ event?: TurnEvent | undefined }>;
  #sequence = 0;
  text = "";
  merged = 0;
  ending: string | undefined;

  constructor(stream: AsyncIterable<{ event?: TurnEvent | undefined }>) {
    this.#stream = stream[Symbol.asyncIterator]();
  }

  async read(most = Number.POSITIVE_INFINITY): Promise<this> {
    for (let i = 0; i < most; i++) {
      const { done, value } = await this.#stream.next();
      if (done === true) return this;
      const { event } = value;
      if (event === undefined || event.sequence === 0) continue;
      expect(event.firstSequence || event.sequence).toBe(this.#sequence + 1);
      this.#sequence = event.sequence;
      if (event.firstSequence > 0) this.merged += 1;
      if (event.event.case === "textDelta") this.text += event.event.value.text;
      else this.ending = event.event.case;
    }
    return this;
  }
}

/** Memory of the process, without the pages of the store's file. */
function memoryBytes(): number {
  const status = readFileSync(`/proc/${broker.pid}/status`, "utf8");
  return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1]) * 1024;
}

it.skipIf(process.platform !== "linux")(
  "cost no memory, hold up nobody, and get everything",
  async () => {
    // The same without slow readers: what it takes anyway.
    await new Reader(client.dispatch(requestOf("warm-up", text))).read();
    const before = memoryBytes();

    const fast = new Reader(client.dispatch(requestOf("chat", text)));
    await fast.read(2);
    const slow = Array.from({ length: slowReaders }, () => new Reader(client.attach({ turnId: "chat" })));
    for (const reader of slow) await reader.read(2);
    const other = new Reader(client.dispatch(requestOf("another-chat", "hello")));
    expect((await other.read()).text).toBe("turn 1: hello");
    expect((await fast.read()).text).toBe(`turn 1: ${text}`);
    expect(memoryBytes() - before).toBeLessThan(mostBytes);

    for (const reader of slow.slice(0, 4)) {
      await reader.read();
      expect(reader.ending).toBe("completed");
      expect(reader.text).toBe(`turn 1: ${text}`);
      expect(reader.merged).toBeGreaterThan(0);
    }
  },
  120_000,
);
