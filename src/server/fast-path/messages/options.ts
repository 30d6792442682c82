import type {
  BinaryReadOptions,
  BinaryWriteOptions,
  JsonReadOptions,
  JsonWriteOptions,
} from "@bufbuild/protobuf";

export interface SerializationOptions {
  readonly binaryOptions?: Partial<BinaryReadOptions & BinaryWriteOptions> | undefined;
  readonly jsonOptions?: Partial<JsonReadOptions & JsonWriteOptions> | undefined;
}

/** These say what becomes of fields that nobody knows, which are left to protobuf-es in any case. */
const harmless = new Set(["ignoreUnknownFields", "readUnknownFields"]);

/** They change nothing of what is usual. */
export function areUsual(options: object = {}): boolean {
  return Object.keys(options).every((name) => harmless.has(name));
}
