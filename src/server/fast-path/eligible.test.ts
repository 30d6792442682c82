import { expect, it } from "vitest";
import { encodingOf } from "./eligible.js";

const facts = (headers: Record<string, string>, rest = {}) => ({
  headers,
  httpMajor: 2,
  streaming: false,
  readMaxBytes: 100,
  ...rest,
});
const json = { "content-type": "application/json" };
const grpc = { "content-type": "application/grpc" };

it.each([
  ["application/json", {}, "connect", false, false],
  ["application/proto", { httpMajor: 1 }, "connect", true, false],
  ["application/connect+json", { streaming: true }, "connect", false, true],
  ["application/connect+proto", { streaming: true, httpMajor: 1 }, "connect", true, true],
  ["application/grpc", {}, "grpc", true, true],
  ["application/grpc+proto", { streaming: true }, "grpc", true, true],
])("%s is answered, with %j", (contentType, rest, protocol, binary, enveloped) => {
  const found = encodingOf(facts({ "content-type": contentType }, rest));
  expect(found).toMatchObject({ protocol, binary, enveloped });
});

it.each([
  ["no content type", {}, {}],
  ["parameters", { "content-type": "application/json; charset=utf-8" }, {}],
  ["odd case", { "content-type": "Application/JSON" }, {}],
  ["a name of every object", { "content-type": "constructor" }, {}],
  ["gRPC over HTTP/1.1", grpc, { httpMajor: 1 }],
  ["gRPC-Web", { "content-type": "application/grpc-web+proto" }, {}],
  ["a stream for a unary method", { "content-type": "application/connect+json" }, {}],
  ["a single message for a stream", json, { streaming: true }],
  ["a compressed body", { ...json, "content-encoding": "gzip" }, {}],
  ["compressed messages", { ...grpc, "grpc-encoding": "gzip" }, {}],
  ["a body that is too large", { ...json, "content-length": "101" }, {}],
  ["an envelope that is too large", { ...grpc, "content-length": "106" }, {}],
  ["a malformed timeout", { ...json, "connect-timeout-ms": "1.5" }, {}],
  ["a timeout of 11 digits", { ...json, "connect-timeout-ms": "10000000000" }, {}],
  ["a gRPC timeout of 9 digits", { ...grpc, "grpc-timeout": "100000000m" }, {}],
  ["a gRPC timeout without a unit", { ...grpc, "grpc-timeout": "5" }, {}],
])("%s is left to connect-node", (_, headers, rest) => {
  expect(encodingOf(facts(headers, rest))).toBeUndefined();
});

it.each([
  [{ ...json, "connect-timeout-ms": "0" }, 0],
  [{ ...json, "connect-timeout-ms": "9999999999" }, 9_999_999_999],
  [{ ...json, "grpc-timeout": "1S" }, undefined],
  [{ ...grpc, "grpc-timeout": "2H" }, 7_200_000],
  [{ ...grpc, "grpc-timeout": "3M" }, 180_000],
  [{ ...grpc, "grpc-timeout": "4S" }, 4000],
  [{ ...grpc, "grpc-timeout": "5m" }, 5],
  [{ ...grpc, "grpc-timeout": "500u" }, 0.5],
  [{ ...json, "content-length": "100", "content-encoding": "identity" }, undefined],
  [{ ...grpc, "content-length": "105" }, undefined],
])("%j has a timeout of %s ms", (headers, timeoutMs) => {
  const found = encodingOf(facts(headers));
  expect(found).toBeDefined();
  expect(found?.timeoutMs).toBe(timeoutMs);
});
