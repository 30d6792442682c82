/** The credentials that are made on first start, and the secret that the broker signs with. */
import { createHash, randomBytes } from "node:crypto";
import {
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
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

/** The token of `<data>/token` may dispatch and read, that of `<data>/admin-token` everything. */
export function defaultCredentials(data: string): CredentialSettings[] {
  return [
    { name: "token", tokenSha256: sha256(readOrMake(tokenFile(data))), role: Role.DISPATCH, scopes: ["*"] },
    {
      name: "admin-token",
      tokenSha256: sha256(readOrMake(adminTokenFile(data))),
      role: Role.ADMIN,
      scopes: ["*"],
    },
  ];
}

/** Key of the codes that authenticate page tokens. */
export function signingKey(data: string): Buffer {
  return Buffer.from(readOrMake(join(data, "signing-key")), "base64url");
}

export function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}

function readOrMake(file: string): string {
  try {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const handle = openSync(file, flags, 0o600);
    const token = randomBytes(32).toString("base64url");
    writeSync(handle, token);
    closeSync(handle);
    return token;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    const token = readFileSync(file, "utf8").trim();
    if (token.length < 16) throw new Error(`${file} holds no token: delete it to have a new one made`);
    return token;
  }
}
