/** Room for one message at a time, which is used again for the next. */
const usualBytes = 4096;
/** Beyond this, room is not kept. */
const keptBytes = 64 * 1024;
/** Up to this, a text is written byte by byte, which costs less than a call into the runtime. */
const shortText = 48;

export class Sink {
  #bytes = Buffer.allocUnsafeSlow(usualBytes);
  #at = 0;

  reset(): void {
    this.#at = 0;
  }

  /** What was written, as the caller's own. */
  taken(): Buffer {
    const written = this.#bytes.subarray(0, this.#at);
    if (this.#bytes.length <= keptBytes) return Buffer.from(written);
    this.#bytes = Buffer.allocUnsafeSlow(usualBytes);
    return written;
  }

  /** @param value a whole number from 0 to 2^53 - 1 */
  varint(value: number): void {
    this.#room(8);
    let left = value;
    while (left >= 128) {
      this.#bytes[this.#at++] = (left % 128) + 128;
      left = Math.floor(left / 128);
    }
    this.#bytes[this.#at++] = left;
  }

  double(value: number): void {
    this.#room(8);
    this.#at = this.#bytes.writeDoubleLE(value, this.#at);
  }

  bytes(value: Uint8Array): void {
    this.#room(value.length);
    this.#bytes.set(value, this.#at);
    this.#at += value.length;
  }

  /** With its length before it. */
  text(value: string): void {
    if (value.length <= shortText && this.#ascii(value)) return;
    const length = Buffer.byteLength(value);
    this.varint(length);
    this.#room(length);
    this.#at += this.#bytes.write(value, this.#at);
  }

  /** Of something whose length stands before it. */
  begin(): number {
    this.#room(1);
    return this.#at++;
  }

  /** @param start as `begin` answered it */
  end(start: number): void {
    const length = this.#at - start - 1;
    if (length >= 128) this.#widen(start, length);
    else this.#bytes[start] = length;
  }

  #widen(start: number, length: number): void {
    const end = this.#at;
    let bytes = 1;
    for (let left = length; left >= 128; left = Math.floor(left / 128)) bytes += 1;
    this.#room(8);
    this.#bytes.copyWithin(start + bytes, start + 1, end);
    this.#at = start;
    this.varint(length);
    this.#at = end + bytes - 1;
  }

  /** False, with nothing written, unless all of it is ASCII. */
  #ascii(value: string): boolean {
    const { length } = value;
    this.#room(length + 1);
    const bytes = this.#bytes;
    const start = this.#at + 1;
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index);
      if (code > 127) return false;
      bytes[start + index] = code;
    }
    bytes[start - 1] = length;
    this.#at = start + length;
    return true;
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#bytes.length * 2, this.#at + bytes));
    this.#bytes.copy(larger, 0, 0, this.#at);
    this.#bytes = larger;
  }
}
