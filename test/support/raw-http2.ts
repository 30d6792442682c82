/** HTTP/2 frame by frame, for what a proper client does not send. https://www.rfc-editor.org/rfc/rfc9113 */
import { connect, type Socket } from "node:net";

export const frameType = {
  data: 0,
  headers: 1,
  rstStream: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const flag = { endStream: 1, ack: 1, endHeaders: 4 } as const;
export const errorCode = { protocol: 1, refusedStream: 7, cancel: 8, enhanceYourCalm: 11 } as const;

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly stream: number;
  readonly payload: Buffer;
}

const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");

export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Buffer = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** Header fields as literals that are not indexed. https://www.rfc-editor.org/rfc/rfc7541#section-6.2.2 */
export function headerBlock(fields: readonly (readonly [name: string, value: string])[]): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), text(name), text(value)]));
}

/** A call with no body yet. */
export function requestFields(
  path: string,
  contentType: string,
  more: readonly (readonly [string, string])[] = [],
): (readonly [string, string])[] {
  return [
    [":method", "POST"],
    [":scheme", "http"],
    [":authority", "localhost"],
    [":path", path],
    ["content-type", contentType],
    ...more,
  ];
}

export class RawHttp2 {
  readonly frames: Frame[] = [];
  readonly closed: Promise<void>;
  #received = Buffer.alloc(0);

  private constructor(readonly socket: Socket) {
    this.closed = new Promise((resolve) => socket.once("close", () => resolve()));
    socket.on("error", () => {});
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
  }

  static async open(port: number, settings: Buffer = Buffer.alloc(0)): Promise<RawHttp2> {
    const socket = connect(port, "127.0.0.1");
    socket.setNoDelay(true);
    const raw = new RawHttp2(socket);
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    await raw.send(preface, frame(frameType.settings, 0, 0, settings));
    return raw;
  }

  /** Resolves when the system has taken it, or the connection is gone. */
  async send(...frames: readonly Buffer[]): Promise<void> {
    if (this.socket.destroyed) return;
    const gone = this.closed;
    const taken = new Promise<void>((resolve) => this.socket.write(Buffer.concat(frames), () => resolve()));
    await Promise.race([taken, gone]);
  }

  of(type: number, stream?: number): Frame[] {
    return this.frames.filter((each) => each.type === type && (stream ?? each.stream) === each.stream);
  }

  /** Error code of the GOAWAY that came; undefined if none did. */
  get goaway(): number | undefined {
    return this.of(frameType.goaway).at(-1)?.payload.readUInt32BE(4);
  }

  #read(chunk: Buffer): void {
    this.#received = Buffer.concat([this.#received, chunk]);
    while (this.#received.length >= 9) {
      const length = this.#received.readUIntBE(0, 3);
      if (this.#received.length < 9 + length) return;
      const [type = 0, flags = 0] = this.#received.subarray(3, 5);
      const stream = this.#received.readUInt32BE(5) & 0x7fff_ffff;
      const payload = this.#received.subarray(9, 9 + length);
      this.frames.push({ type, flags, stream, payload });
      const isAsked = type === frameType.ping && (flags & flag.ack) === 0;
      if (isAsked) void this.send(frame(frameType.ping, flag.ack, 0, payload));
      this.#received = this.#received.subarray(9 + length);
    }
  }
}

/** Length with a prefix of seven bits, and the bytes. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  return Buffer.concat([integer(bytes.length), bytes]);
}

function integer(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  let left = value - 127;
  for (; left >= 128; left = Math.floor(left / 128)) bytes.push((left % 128) + 128);
  return Buffer.from([...bytes, left]);
}
