import { expect, it } from "vitest";
import { Role } from "../../gen/sessionbroker/v1/options_pb.js";
import { sha256 } from "../config/tokens.js";
import { Credentials } from "./credentials.js";

const settings = (name: string, token: string) => ({
  ...{ name, tokenSha256: sha256(token), role: Role.READ, scopes: ["*"] },
});

it("knows a token each time that it is shown, however the header is spaced", () => {
  const credentials = new Credentials([settings("a", "token-a"), settings("b", "token-b")]);
  const find = (authorization: string) => credentials.find({ authorization })?.name;
  for (let spaces = 1; spaces < 20; spaces++) {
    expect(find(`Bearer${" ".repeat(spaces)}token-a`)).toBe("a");
    expect(find(`bearer token-b${" ".repeat(spaces)}`)).toBe("b");
  }
  expect(find("Bearer token-c")).toBeUndefined();
  expect(find("Bearer token-c")).toBeUndefined();
  expect(find("token-a")).toBeUndefined();
});

it("knows a token no longer once it was taken away, and as another's once it was given on", () => {
  const credentials = new Credentials([settings("a", "token-a")]);
  const find = () => credentials.find({ authorization: "Bearer token-a" })?.name;
  expect([find(), find()]).toEqual(["a", "a"]);
  credentials.replace([settings("b", "token-b")]);
  expect(find()).toBeUndefined();
  credentials.replace([settings("c", "token-a")]);
  expect(find()).toBe("c");
});
