import { createServer, type IncomingMessage } from "node:http";
import { Duplex } from "node:stream";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { KnownHeads, plainHead } from "./plain-head.js";

const plain = [
  "POST /service/Method HTTP/1.1",
  "Host: 127.0.0.1:4700",
  "content-type: application/json",
  "Authorization: Bearer a-token",
  "Content-Length: 12",
];

/** With another line in the place of the one that begins so, or without it. */
function withLine(start: string, line: string | undefined): string {
  const rest = plain.filter((each) => !each.startsWith(start));
  const first = start === "POST" ? [] : rest.slice(0, 1);
  const others = start === "POST" ? rest : rest.slice(1);
  return [...first, ...(line === undefined ? [] : [line]), ...others].join("\r\n");
}

describe("plainHead", () => {
  it("reads what common clients send", () => {
    expect(plainHead(plain.join("\r\n"))).toEqual({
      url: "/service/Method",
      headers: {
        host: "127.0.0.1:4700",
        "content-type": "application/json",
        authorization: "Bearer a-token",
        "content-length": "12",
      },
      rawHeaders: plain.slice(1).flatMap((line) => line.split(": ")),
      bodyBytes: 12,
      isLast: false,
    });
  });

  it.each([
    ["Connection: keep-alive", false],
    ["connection: Keep-Alive", false],
    ["Connection: close", true],
    ["connection: Close", true],
  ])("knows whether the connection stays: %s", (line, isLast) => {
    expect(plainHead(withLine("Connection", line))?.isLast).toBe(isLast);
  });

  it.each<[string, string, string | undefined]>([
    ["another method", "POST", "GET / HTTP/1.1"],
    ["another version", "POST", "POST / HTTP/1.0"],
    ["a method in lower case", "POST", "post / HTTP/1.1"],
    ["a whole URL", "POST", "POST http://host/ HTTP/1.1"],
    ["a space in the path", "POST", "POST /a b HTTP/1.1"],
    ["two spaces", "POST", "POST  / HTTP/1.1"],
    ["a path with a character beyond ASCII", "POST", "POST /\u00e9 HTTP/1.1"],
    ["no host", "Host", undefined],
    ["no length", "Content-Length", undefined],
    ["an empty length", "Content-Length", "Content-Length: "],
    ["a length with a sign", "Content-Length", "Content-Length: +12"],
    ["a length that is no number", "Content-Length", "Content-Length: 0x1"],
    ["two lengths in one", "Content-Length", "Content-Length: 12, 12"],
    ["a length beyond all bounds", "Content-Length", "Content-Length: 9999999999"],
    ["a length twice", "X", "content-length: 12"],
    ["a host twice", "X", "HOST: other"],
    ["chunks", "X", "Transfer-Encoding: chunked"],
    ["a coding that is none", "X", "transfer-encoding: identity"],
    ["an expectation", "X", "Expect: 100-continue"],
    ["an upgrade", "X", "Upgrade: h2c"],
    ["trailers", "X", "Trailer: x"],
    ["another connection option", "X", "Connection: close, x-a"],
    ["a space before the colon", "X", "X-A : b"],
    ["no space after it", "X", "X-A:b"],
    ["two spaces after it", "X", "X-A:  b"],
    ["a space after the value", "X", "X-A: b "],
    ["no value", "X", "X-A: "],
    ["no name", "X", ": b"],
    ["no colon", "X", "X-A"],
    ["a name with a space", "X", "X A: b"],
    ["a folded value", "X", "X-A: b\r\n c"],
    ["a bare line feed", "X", "X-A: b\nX-B: c"],
    ["a bare carriage return", "X", "X-A: b\rX-B: c"],
    ["a tab", "X", "X-A: b\tc"],
    ["a zero byte", "X", "X-A: b\0"],
    ["a value beyond ASCII", "X", "X-A: \u00e9"],
  ])("leaves %s to Node.js", (_, start, line) => {
    expect(plainHead(withLine(start, line))).toBeUndefined();
  });

  it("leaves nothing to another reading: whatever it takes, Node.js reads as well", async () => {
    const odd = fc.constantFrom(
      ...[
        "content-length: 0",
        "Connection: close",
        "connection: keep-alive",
        "x-a: b",
        "X-A: c, d",
        "Cookie: a=b",
      ],
      ...["__proto__: x", "constructor: y", "Transfer-Encoding: chunked", "x-b:", "X-C : d", "TE: trailers"],
      ...["Keep-Alive: timeout=5", "x-d: \u00e9", "x-e: a\nb", " folded", "", "Content-Length: 12, 12"],
    );
    const lines = fc
      .tuple(fc.subarray(plain.slice(1), { minLength: 3 }), fc.array(odd, { maxLength: 3 }))
      .chain(([usual, unusual]) => {
        const all = [...usual, ...unusual];
        return fc.shuffledSubarray(all, { minLength: all.length });
      });
    const requestLines = fc.constantFrom(
      "POST /a/b HTTP/1.1",
      "POST /a?b=c#d HTTP/1.1",
      "POST /%00 HTTP/1.1",
    );
    const heads = fc.tuple(requestLines, lines);
    let taken = 0;
    await fc.assert(
      fc.asyncProperty(heads, async ([first, rest]) => {
        const text = [first, ...rest].join("\r\n");
        const head = plainHead(text);
        if (head === undefined) return;
        taken += 1;
        const theirs = await readByNode(`${text}\r\n\r\n${"x".repeat(head.bodyBytes)}`);
        expect({ ...theirs.headers }).toEqual({ ...head.headers });
        expect(theirs).toMatchObject({ url: head.url, method: "POST", rawHeaders: head.rawHeaders });
        expect(theirs.body).toHaveLength(head.bodyBytes);
      }),
      { numRuns: 3000 },
    );
    expect(taken).toBeGreaterThan(100);
  });
});

describe("KnownHeads", () => {
  const head = plainHead(plain.join("\r\n"));
  if (head === undefined) throw new Error("the header is not plain");

  it("remembers some, and not the largest", () => {
    const heads = new KnownHeads();
    for (let i = 0; i < 10_000; i++) heads.add(`${i}`, head);
    const known = Array.from({ length: 10_000 }, (_, i) => heads.get(`${i}`)).filter(Boolean).length;
    expect(heads.get("9999")).toBe(head);
    expect(known).toBeLessThan(1_000);
    heads.add("x".repeat(100_000), head);
    expect(heads.get("x".repeat(100_000))).toBeUndefined();
  });
});

/** One request, as Node.js's server reads it. */
function readByNode(bytes: string): Promise<IncomingMessage & { body: string }> {
  return new Promise((resolve, reject) => {
    const socket = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
    const server = createServer(async (req) => {
      let body = "";
      for await (const chunk of req.setEncoding("latin1")) body += chunk;
      resolve(Object.assign(req, { body }));
      socket.destroy();
    });
    server.on("clientError", reject);
    server.emit("connection", socket);
    socket.push(Buffer.from(bytes, "latin1"));
  });
}
