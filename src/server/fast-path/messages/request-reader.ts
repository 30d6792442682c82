/** Requests as messages: by the readers beside this file where they can, and by protobuf-es where not. */
import type { DescMessage } from "@bufbuild/protobuf";
import { usual } from "../../../protobuf/fields.js";
import { binaryReader } from "./binary-reader.js";
import { jsonReader } from "./json-reader.js";
import { areUsual, type SerializationOptions } from "./options.js";

/** Of protobuf-es, with its errors. */
interface Parser {
  parse(bytes: Uint8Array): object;
}

export function requestReader(
  desc: DescMessage,
  library: (binary: boolean) => Parser,
  { binaryOptions, jsonOptions }: SerializationOptions,
): (bytes: Uint8Array, binary: boolean) => object {
  const binary = areUsual(binaryOptions) ? usual(() => binaryReader(desc)) : undefined;
  const json = areUsual(jsonOptions) ? usual(() => jsonReader(desc)) : undefined;
  return (bytes, isBinary) => {
    const read = isBinary ? binary : json;
    const message = read && usual(() => read(bytes));
    return message ?? library(isBinary).parse(bytes);
  };
}
