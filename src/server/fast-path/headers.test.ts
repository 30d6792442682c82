import { expect, it } from "vitest";
import { RequestHeaders, toNodeHeaders } from "./headers.js";

const sent = { ":path": "/x", authorization: "Bearer t", "set-cookie": ["a=1", "b=2"], host: "localhost" };

it.each([
  ["authorization", "Bearer t"],
  ["Authorization", "Bearer t"],
  ["set-cookie", "a=1, b=2"],
  ["absent", null],
  ["constructor", null],
  ["__proto__", null],
])("get(%s) is %s, as of Headers", (name, value) => {
  const headers = new RequestHeaders(sent);
  expect(headers.get(name)).toBe(value);
  expect(headers.has(name)).toBe(value !== null);
});

it("can be copied and changed as Headers, without pseudo-headers", () => {
  const headers = new RequestHeaders(sent);
  headers.set("x-one", "1");
  headers.append("X-One", "2");
  headers.delete("host");
  expect([...new Headers(headers)]).toEqual([
    ["authorization", "Bearer t"],
    ["set-cookie", "a=1"],
    ["set-cookie", "b=2"],
    ["x-one", "1, 2"],
  ]);
  expect(headers.get("x-one")).toBe("1, 2");
  expect(headers.get("host")).toBeNull();
  expect(headers.getSetCookie()).toEqual(["a=1", "b=2"]);
});

it("sends each cookie by itself", () => {
  const headers = new Headers([["set-cookie", "a=1"]]);
  headers.append("set-cookie", "b=2");
  headers.append("x-one", "1");
  headers.append("x-one", "2");
  expect(toNodeHeaders(headers)).toEqual({ "set-cookie": ["a=1", "b=2"], "x-one": "1, 2" });
});
