/** What agents and model services say, cut anywhere and damaged anyhow. */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { EventReader as AcpReader } from "../../src/providers/acp/events.js";
import { EventReader as ClaudeReader } from "../../src/providers/claude/events.js";
import { parseResult } from "../../src/providers/claude/records.js";
import { EventReader as CodexReader } from "../../src/providers/codex/events.js";
import { parseMessage } from "../../src/providers/codex/protocol.js";
import { PlainText, Records } from "../../src/providers/command/events.js";
import { EventReader as GeminiReader } from "../../src/providers/gemini/events.js";
import { asRecord, type JsonRecord, parseRecord } from "../../src/providers/json.js";
import { LineSplitter, OutputLimitError } from "../../src/providers/lines.js";
import { readerOf } from "../../src/providers/openai/events.js";
import { EventDecoder } from "../../src/providers/openai/stream.js";
import { mutated, parameters } from "./fuzzing.js";

const runs = 300;

/** Reads output in the pieces in which it comes. */
interface Parser {
  read(chunk: Buffer): readonly unknown[];
  end(): readonly unknown[];
}

interface Format {
  readonly name: string;
  readonly samples: readonly Buffer[];
  readonly start: () => Parser;
}

const formats: readonly Format[] = [
  { name: "claude", samples: captured("claude-2.1.329"), start: () => lines(claude()) },
  { name: "codex exec", samples: captured("codex-0.169.0", "exec"), start: () => lines(codexExec()) },
  {
    name: "codex app-server",
    samples: captured("codex-0.169.0", "app-server"),
    start: () => lines(codexServer()),
  },
  { name: "gemini", samples: captured("gemini-0.61.0"), start: () => lines(gemini()) },
  { name: "acp", samples: acpSamples(), start: () => lines(acp()) },
  {
    name: "command with records",
    samples: captured("claude-2.1.329"),
    start: () =>
      command(
        new Records(
          {
            text: "result",
            nativeId: "session_id",
            end: "type",
            endValue: "result",
            error: "error",
          },
          undefined,
        ),
      ),
  },
  {
    name: "command with text",
    samples: [Buffer.from("Grüße, 😀\nund mehr\r\n")],
    start: () => command(new PlainText()),
  },
  {
    name: "openai responses",
    samples: openaiSamples("response.output_text.delta"),
    start: () => openai("responses"),
  },
  { name: "openai chat", samples: openaiSamples("chat.completion.chunk"), start: () => openai("chat") },
];

describe.each(formats)("output of $name", ({ samples, start }) => {
  it("means the same wherever it is cut, also after every byte", () => {
    for (const sample of samples) {
      const whole = parse(start(), [sample]);
      expect(
        parse(
          start(),
          [...sample].map((byte) => Buffer.from([byte])),
        ),
      ).toEqual(whole);
    }
    const cuts = fc.tuple(fc.constantFrom(...samples), fc.array(fc.double({ min: 0, max: 1, noNaN: true })));
    fc.assert(
      fc.property(cuts, ([sample, places]) => {
        expect(parse(start(), cut(sample, places))).toEqual(parse(start(), [sample]));
      }),
      parameters(runs),
    );
  });

  it("that is damaged never throws", () => {
    fc.assert(
      fc.property(mutated(samples), (bytes) => {
        parse(start(), [bytes]);
      }),
      parameters(runs),
    );
  });
});

describe("records of another shape", () => {
  const readers: Readonly<Record<string, (record: JsonRecord) => unknown>> = {
    claude: (record) => [claude()(record), parseResult(record)],
    "codex exec": (record) => codexExec()(record),
    "codex app-server": (record) => codexServer()(record),
    gemini: (record) => gemini()(record),
    acp: (record) => acp()(record),
  };
  const records = formats.flatMap(({ samples }) =>
    samples.flatMap((sample) =>
      sample
        .toString()
        .split("\n")
        .flatMap((line): JsonRecord[] => {
          const record = parseRecord(line);
          return record === undefined ? [] : [record];
        }),
    ),
  );
  const value = fc.jsonValue({ maxDepth: 2 }) as fc.Arbitrary<unknown>;
  const reshaped: fc.Arbitrary<JsonRecord> = fc
    .tuple(
      fc.constantFrom(...records),
      fc.array(fc.tuple(fc.nat({ max: 40 }), value), { minLength: 1, maxLength: 4 }),
    )
    .map(([record, changes]) => {
      let changed = record;
      for (const [place, other] of changes) changed = replace(changed, place, other);
      return changed;
    });

  it.each(Object.entries(readers))("are read by %s without an error", (_, read) => {
    fc.assert(
      fc.property(reshaped, (record) => {
        read(record);
      }),
      parameters(runs),
    );
  });
});

/** The record with another value in its n-th place, deep first. */
function replace(record: JsonRecord, place: number, value: unknown): JsonRecord {
  let left = place;
  const walk = (node: unknown): unknown => {
    if (left-- === 0) return value;
    if (Array.isArray(node)) return node.map(walk);
    const inner = asRecord(node);
    if (inner === undefined) return node;
    return Object.fromEntries(Object.entries(inner).map(([name, each]) => [name, walk(each)]));
  };
  const changed = Object.fromEntries(Object.entries(record).map(([name, each]) => [name, walk(each)]));
  return changed;
}

function parse(parser: Parser, chunks: readonly Buffer[]): readonly unknown[] {
  try {
    return [...chunks.flatMap((chunk) => parser.read(chunk)), ...parser.end()].reduce(joinText, []);
  } catch (error) {
    // The one error that output may lead to: it is more than may be kept.
    if (error instanceof OutputLimitError) return ["too much"];
    throw error;
  }
}

/** Text that came in several pieces is one text. */
function joinText(events: readonly unknown[], event: unknown): readonly unknown[] {
  const last = events.at(-1);
  if (typeof event !== "string" || typeof last !== "string")
    return event === "" ? events : [...events, event];
  return [...events.slice(0, -1), last + event];
}

function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = places.map((place) => Math.floor(place * bytes.length)).sort((a, b) => a - b);
  return [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length));
}

function lines(read: (record: JsonRecord) => readonly unknown[]): Parser {
  const splitter = new LineSplitter();
  const each = (line: string) => {
    const record = parseRecord(line);
    return record === undefined ? [] : read(record);
  };
  return {
    read: (chunk) => splitter.push(chunk).flatMap(each),
    end: () => splitter.end().flatMap(each),
  };
}

function command(reader: Records | PlainText): Parser {
  return { read: (chunk) => [reader.read(chunk)], end: () => [reader.end(), { ...described(reader) }] };
}

function described({ text, nativeId, hasEnded, failure }: Records | PlainText) {
  return { text, nativeId, hasEnded, failure };
}

function openai(api: Parameters<typeof readerOf>[0]): Parser {
  const decoder = new EventDecoder();
  const reader = readerOf(api);
  return { read: (chunk) => decoder.push(chunk).flatMap((data) => reader.read(data)), end: () => [] };
}

function claude() {
  const reader = new ClaudeReader();
  return (record: JsonRecord) => reader.read(record);
}

function codexExec() {
  const reader = new CodexReader();
  return (record: JsonRecord) => reader.readExec(record);
}

function codexServer() {
  const reader = new CodexReader();
  return (record: JsonRecord) => {
    const message = parseMessage(JSON.stringify(record));
    return message?.kind === "notification" ? reader.read(message.method, message.params) : [];
  };
}

function gemini() {
  const reader = new GeminiReader();
  return (record: JsonRecord) => reader.read(record);
}

function acp() {
  const reader = new AcpReader();
  return (record: JsonRecord) => reader.read(asRecord(asRecord(record.params)?.update) ?? record);
}

/** The output of each captured run. */
function captured(name: string, mode?: string): readonly Buffer[] {
  const file = new URL(`../providers/captures/${name}.jsonl`, import.meta.url);
  const runs = readFileSync(file, "utf8").trim().split("\n");
  return runs
    .map((line) => JSON.parse(line) as { readonly mode?: string; readonly records: readonly JsonRecord[] })
    .filter((run) => mode === undefined || run.mode === mode)
    .map(({ records }) => jsonLines(records));
}

function acpSamples(): readonly Buffer[] {
  const updates = [
    { sessionUpdate: "agent_thought_chunk", content: { type: "text", text: "Hm, é." } },
    { sessionUpdate: "tool_call", toolCallId: "1", title: "ls", rawInput: { path: "/" }, content: [] },
    {
      sessionUpdate: "tool_call_update",
      toolCallId: "1",
      status: "completed",
      content: [{ type: "content", content: { type: "text", text: "a b" } }],
    },
    { sessionUpdate: "agent_message_chunk", content: { type: "text", text: "Done 😀." } },
    { sessionUpdate: "usage_update", cost: { amount: 0.1, currency: "USD" } },
  ];
  return [
    jsonLines(
      updates.map((update) => ({
        jsonrpc: "2.0",
        method: "session/update",
        params: { sessionId: "s", update },
      })),
    ),
  ];
}

function openaiSamples(type: string): readonly Buffer[] {
  const texts = ["Grüße", ", ", "😀"];
  const records = texts.map((text) =>
    type.startsWith("response")
      ? { type, item_id: "1", delta: text }
      : { object: type, choices: [{ index: 0, delta: { content: text } }] },
  );
  return [Buffer.from(records.map((record) => `data: ${JSON.stringify(record)}\r\n\r\n`).join(""))];
}

function jsonLines(records: readonly object[]): Buffer {
  return Buffer.from(records.map((record) => `${JSON.stringify(record)}\n`).join(""));
}
