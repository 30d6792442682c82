import { describe, expect, it } from "vitest";
import { bearerAuthorization, clientAuthorization, headerValue, readHeaders } from "./headers.js";

describe("readHeaders", () => {
  it("finds a header by its lower-case name and reads its bytes as UTF-8", () => {
    const header = readHeaders(["Host", "localhost", "X-Key", headerValue("grüße-🦊")]);
    expect(header("x-key")).toBe("grüße-🦊");
    expect(header("x-other")).toBeUndefined();
  });

  it("refuses bytes that are not UTF-8", () => {
    expect(() => readHeaders(["x-key", "gr\u00fc\u00dfe"])("x-key")).toThrow(
      "header x-key is not valid UTF-8",
    );
  });

  it("refuses a header that is given twice, however it is spelled", () => {
    const header = readHeaders(["x-key", "a", "X-Key", "a", "x-other", "b"]);
    expect(() => header("x-key")).toThrow("header x-key is given twice");
    expect(header("x-other")).toBe("b");
  });
});

describe("bearerAuthorization", () => {
  it.each([["Bearer abc"], ["bearer abc"]])("takes %j", (value) => {
    expect(bearerAuthorization(readHeaders(["authorization", value]))).toBe(value);
  });

  it.each([[undefined], [""], ["Bearer"], ["Bearer "], ["Basic abc"], ["Bearer a b"]])(
    "refuses %j",
    (value) => {
      const header = readHeaders(value === undefined ? [] : ["authorization", value]);
      expect(() => bearerAuthorization(header)).toThrow(
        expect.objectContaining({ init: expect.objectContaining({ status: 401 }) }),
      );
    },
  );
});

describe("clientAuthorization", () => {
  it.each([
    [{ authorization: "Bearer abc" }, "Bearer abc"],
    [{ "x-api-key": "abc" }, "Bearer abc"],
    [{ "x-api-key": "abc", authorization: "bearer  abc" }, "Bearer abc"],
  ])("of %j is %j", (headers, authorization) => {
    expect(clientAuthorization(readHeaders(Object.entries(headers).flat()))).toBe(authorization);
  });

  it.each([
    [{}, 401],
    [{ "x-api-key": "" }, 401],
    [{ "x-api-key": "a b" }, 401],
    [{ "x-api-key": "abc", authorization: "Bearer other" }, 400],
    [{ "x-api-key": "abc", authorization: "Basic abc" }, 401],
  ])("refuses %j with %i", (headers, status) => {
    expect(() => clientAuthorization(readHeaders(Object.entries(headers).flat()))).toThrow(
      expect.objectContaining({ init: expect.objectContaining({ status }) }),
    );
  });
});
