/** The credentials that are made on first start, and the secret that the broker signs with. */
import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { Role } from "../../gen/sessionbroker/v1/options_pb.js";
import type { CredentialSettings } from "./config.js";

/** Makes the data directory and what belongs in it, where it is missing. */
export function prepareData(data: string): void {
  mkdirSync(data, { recursive: true, mode: 0o700 });
  const ignore = join(data, ".gitignore");
  if (!existsSync(ignore)) writeFileSync(ignore, "*\n", { mode: 0o600 });
}

export function tokenFile(data: string): string {
  return join(data, "token");
}

export function adminTokenFile(data: string): string {
  return join(data, "admin-token");
}

/** The token of a file as a header, for `curl -H @<file>`: so it is in no command line. */
export function headerFile(ofToken: string): string {
  return `${ofToken}.header`;
}

/** The token of `<data>/token` may dispatch and read, that of `<data>/admin-token` everything. */
export function defaultCredentials(data: string): CredentialSettings[] {
  const credential = (name: string, file: string, role: Role) => {
    const token = readOrMake(file);
    writeHeader(headerFile(file), token);
    return { name, tokenSha256: sha256(token), role, scopes: ["*"] };
  };
  return [
    credential("token", tokenFile(data), Role.DISPATCH),
    credential("admin-token", adminTokenFile(data), Role.ADMIN),
  ];
}

/** Key of the codes that authenticate page tokens. */
export function signingKey(data: string): Buffer {
  return Buffer.from(readOrMake(join(data, "signing-key")), "base64url");
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

/** Written anew if the token was changed by hand. */
function writeHeader(file: string, token: string): void {
  const header = `Authorization: Bearer ${token}\n`;
  if (existsSync(file) && readFileSync(file, "utf8") === header) return;
  rmSync(file, { force: true });
  makeFile(file, header);
}

/** For this user alone. @throws EEXIST if something is there, a link as well */
function makeFile(file: string, text: string): void {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = openSync(file, flags, 0o600);
  writeSync(handle, text);
  closeSync(handle);
}

function readOrMake(file: string): string {
  try {
    const token = randomBytes(32).toString("base64url");
    makeFile(file, token);
    return token;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const token = readFileSync(file, "utf8").trim();
    if (token.length < 16) throw new Error(`${file} holds no token: delete it to have a new one made`);
    return token;
  }
}
