import { createHash } from "node:crypto";

const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

/** Namespace of the ids made here; part of the contract, since a retry must make the same one. */
const namespace = Buffer.from("6f2b0d1c5a5e4c0c9d5f0d3a3c1e7b42", "hex");

/** A UUID is taken as it is, in lower case; any other key becomes a UUIDv5 of scope and key. */
export function turnIdOf(idempotencyKey: string, scope: string): string {
  return uuid.test(idempotencyKey) ? idempotencyKey.toLowerCase() : uuidV5(`${scope}\0${idempotencyKey}`);
}

/** https://www.rfc-editor.org/rfc/rfc9562#section-5.5 */
function uuidV5(name: string): string {
  const bytes = createHash("sha1").update(namespace).update(name, "utf8").digest().subarray(0, 16);
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | 0x50, 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
