import { configureTextEncoding, getTextEncoding } from "@bufbuild/protobuf/wire";

/**
 * Reads malformed UTF-8 in protobuf strings as U+FFFD, as it is read in JSON.
 * Every id refuses U+FFFD by its own rule, so the caller is told which field
 * was malformed, over every protocol; left to the library, the request would
 * end as an INTERNAL error that names none.
 */
export function readMalformedTextAsReplacement(): void {
  const standard = getTextEncoding();
  configureTextEncoding({ ...standard, decodeUtf8: (bytes) => standard.decodeUtf8(bytes) });
}
