/**
 * OpenAI's published schema, where it is at hand: SESSION_BROKER_TEST_OPENAPI
 * names the file. What an adapter sends is held against it.
 */
import { readFileSync } from "node:fs";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import { parse } from "yaml";

export const openapiFile = process.env.SESSION_BROKER_TEST_OPENAPI;

export class OpenApi {
  readonly #ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
  readonly #validators = new Map<string, ValidateFunction>();

  constructor(file: string) {
    const { components } = parse(readFileSync(file, "utf8"));
    this.#ajv.addSchema({ $id: "openai", components: withNull(components) });
  }

  /** What is wrong with a value, by the schema of this name. */
  problems(schema: string, value: unknown): string[] {
    const validate =
      this.#validators.get(schema) ?? this.#ajv.compile({ $ref: `openai#/components/schemas/${schema}` });
    this.#validators.set(schema, validate);
    if (validate(value)) return [];
    return (validate.errors ?? []).map(({ instancePath, message }) => `${schema}${instancePath} ${message}`);
  }
}

/** `nullable` is of an older OpenAPI, and OpenAI's page still has it in places. */
function withNull(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(withNull);
  if (typeof schema !== "object" || schema === null) return schema;
  const { nullable, ...rest } = Object.fromEntries(
    Object.entries(schema).map(([key, value]) => [key, withNull(value)]),
  );
  return nullable === true ? { anyOf: [rest, { type: "null" }] } : rest;
}

export interface Sent {
  readonly route: string;
  readonly status: number;
  /** A body, or the data of one event. */
  readonly value: unknown;
  readonly streamed: boolean;
}

/** A `fetch` that keeps what is answered and read to its end. */
export function recordingFetch(sent: Sent[]): typeof fetch {
  return async (input, init) => {
    const { body, status, headers } = await fetch(input, init);
    const url = new URL(input instanceof Request ? input.url : input);
    const route = `${init?.method ?? "GET"} ${url.pathname}`;
    const streamed = headers.get("content-type")?.startsWith("text/event-stream") ?? false;
    let text = "";
    const kept = new TransformStream<string, string>({
      transform(chunk, controller) {
        text += chunk;
        controller.enqueue(chunk);
      },
      flush() {
        const values = streamed ? eventsOf(text) : [JSON.parse(text)];
        sent.push(...values.map((value) => ({ route, status, value, streamed })));
      },
    });
    const passedOn = body
      ?.pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>)
      .pipeThrough(kept)
      .pipeThrough(new TextEncoderStream());
    return new Response(passedOn ?? null, { status, headers });
  };
}

/** The data of server-sent events. */
export function eventsOf(text: string): unknown[] {
  return [...text.matchAll(/^data: (\{.*\})$/gm)].map(([, data = ""]) => JSON.parse(data));
}
