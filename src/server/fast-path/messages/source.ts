/** Bytes of a message, read one value after the other. */
import { unusual } from "../../../protobuf/fields.js";

/** As protobuf-es decodes: what is no UTF-8 is refused, and a byte order mark is text. */
const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Each of its methods throws Unusual for what is not there to its end, and for what is left to protobuf-es. */
export class Source {
  readonly #bytes: Buffer;
  #at = 0;
  /** Of the message that is being read. */
  #end: number;

  constructor({ buffer, byteOffset, byteLength }: Uint8Array) {
    this.#bytes = Buffer.from(buffer, byteOffset, byteLength);
    this.#end = byteLength;
  }

  isMore(): boolean {
    return this.#at < this.#end;
  }

  /** A whole number below 2^32. */
  varint(): number {
    let value = 0;
    for (let factor = 1; factor <= 2 ** 28; factor *= 128) {
      const byte = this.#byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return value < 2 ** 32 ? value : unusual("varint");
    }
    return unusual("varint");
  }

  double(): number {
    return this.#bytes.readDoubleLE(this.#skip(8));
  }

  /** They are a part of the request. */
  bytes(): Uint8Array {
    const length = this.varint();
    const start = this.#skip(length);
    const { buffer, byteOffset } = this.#bytes;
    return new Uint8Array(buffer, byteOffset + start, length);
  }

  text(): string {
    const length = this.varint();
    const start = this.#skip(length);
    return this.#isAscii(start) ? this.#bytes.toString("latin1", start, this.#at) : this.#decoded(start);
  }

  /** Goes into a message whose length stands before it. @returns for `end` */
  begin(): number {
    const length = this.varint();
    const outer = this.#end;
    const end = this.#at + length;
    if (end > outer) unusual("length");
    this.#end = end;
    return outer;
  }

  /** Leaves a message at its end. */
  end(outer: number): void {
    if (this.#at !== this.#end) unusual("length");
    this.#end = outer;
  }

  #byte(): number {
    return this.#at < this.#end ? (this.#bytes[this.#at++] as number) : unusual("length");
  }

  /** @returns where it was before */
  #skip(bytes: number): number {
    const start = this.#at;
    if (start + bytes > this.#end) unusual("length");
    this.#at = start + bytes;
    return start;
  }

  #isAscii(start: number): boolean {
    for (let at = start; at < this.#at; at++) if ((this.#bytes[at] as number) > 0x7f) return false;
    return true;
  }

  #decoded(start: number): string {
    try {
      return utf8.decode(this.#bytes.subarray(start, this.#at));
    } catch {
      return unusual("text");
    }
  }
}
