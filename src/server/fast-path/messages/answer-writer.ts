/** Answers as they are sent: by the writers beside this file where they can, and by protobuf-es where not. */
import type { BinaryWriteOptions, DescMessage, JsonReadOptions, JsonWriteOptions } from "@bufbuild/protobuf";
import { binaryOf } from "./binary.js";
import { type Members, Unusual } from "./fields.js";
import { jsonTextOf } from "./json-text.js";

/** Of protobuf-es, with its errors. */
interface Serialization {
  serialize(message: never): Uint8Array;
}

interface Options {
  readonly binaryOptions?: Partial<BinaryWriteOptions> | undefined;
  readonly jsonOptions?: Partial<JsonReadOptions & JsonWriteOptions> | undefined;
}

/** Bytes, or a text of ASCII alone, which is written faster as it is. */
export type Payload = Uint8Array | string;

type Write = (message: Members) => Payload;

/** These change nothing of what is written. */
const readingOnly = new Set(["ignoreUnknownFields", "readUnknownFields"]);

export function answerWriter(
  desc: DescMessage,
  library: (binary: boolean) => Serialization,
  { binaryOptions = {}, jsonOptions = {} }: Options,
): (message: unknown, binary: boolean) => Payload {
  const isPlain = (options: object) => Object.keys(options).every((name) => readingOnly.has(name));
  const binary = isPlain(binaryOptions) ? usual(() => binaryOf(desc)) : undefined;
  const json = isPlain(jsonOptions) ? usual(() => inUtf8(jsonTextOf(desc))) : undefined;
  return (message, isBinary) => {
    const write = isBinary ? binary : json;
    const written = write && usual(() => write(message as Members));
    return written ?? library(isBinary).serialize(message as never);
  };
}

function inUtf8(write: (message: Members) => string): Write {
  return (message) => {
    const text = write(message);
    return Buffer.byteLength(text) === text.length ? text : Buffer.from(text);
  };
}

/** Undefined for what is left to protobuf-es. */
function usual<T>(make: () => T): T | undefined {
  try {
    return make();
  } catch (error) {
    if (error instanceof Unusual) return undefined;
    throw error;
  }
}
