/** Answers as they are sent: by the writers beside this file where they can, and by protobuf-es where not. */
import type { DescMessage } from "@bufbuild/protobuf";
import { type Members, usual } from "../../../protobuf/fields.js";
import { binaryOf } from "./binary.js";
import { jsonTextOf } from "./json-text.js";
import { areUsual, type SerializationOptions } from "./options.js";

/** Of protobuf-es, with its errors. */
interface Serialization {
  serialize(message: never): Uint8Array;
}

/** Bytes, or a text of ASCII alone, which is written faster as it is. */
export type Payload = Uint8Array | string;

type Write = (message: Members) => Payload;

export function answerWriter(
  desc: DescMessage,
  library: (binary: boolean) => Serialization,
  { binaryOptions, jsonOptions }: SerializationOptions,
): (message: unknown, binary: boolean) => Payload {
  const binary = areUsual(binaryOptions) ? usual(() => binaryOf(desc)) : undefined;
  const json = areUsual(jsonOptions) ? usual(() => inUtf8(jsonTextOf(desc))) : undefined;
  return (message, isBinary) => {
    const write = isBinary ? binary : json;
    const written = write && usual(() => write(message as Members));
    return written ?? library(isBinary).serialize(message as never);
  };
}

function inUtf8(write: ReturnType<typeof jsonTextOf>): Write {
  return (message) => {
    const { text, isAscii } = write(message);
    return isAscii ? text : Buffer.from(text);
  };
}
