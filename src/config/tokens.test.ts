import { mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { adminTokenFile, defaultCredentials, headerFile, prepareData, sha256, tokenFile } from "./tokens.js";

let data: string;

beforeEach(() => {
  data = join(mkdtempSync(join(tmpdir(), "tokens-")), "data");
  prepareData(data);
});

afterEach(() => rmSync(join(data, ".."), { recursive: true }));

it("makes two tokens and their headers, for this user alone, and keeps them", () => {
  const made = defaultCredentials(data);
  for (const [index, file] of [tokenFile(data), adminTokenFile(data)].entries()) {
    const token = readFileSync(file, "utf8");
    expect(made[index]?.tokenSha256).toBe(sha256(token));
    expect(readFileSync(headerFile(file), "utf8")).toBe(`Authorization: Bearer ${token}\n`);
    for (const each of [file, headerFile(file)]) expect(statSync(each).mode & 0o777).toBe(0o600);
  }
  expect(defaultCredentials(data)).toEqual(made);
});

it("follows a token that was changed by hand, and no link in the place of a header", () => {
  defaultCredentials(data);
  writeFileSync(tokenFile(data), "another-secret-token\n");
  const victim = join(data, "..", "victim");
  writeFileSync(victim, "as it was");
  rmSync(headerFile(tokenFile(data)));
  symlinkSync(victim, headerFile(tokenFile(data)));
  expect(defaultCredentials(data)[0]?.tokenSha256).toBe(sha256("another-secret-token"));
  expect(readFileSync(headerFile(tokenFile(data)), "utf8")).toBe(
    "Authorization: Bearer another-secret-token\n",
  );
  expect(readFileSync(victim, "utf8")).toBe("as it was");
});
