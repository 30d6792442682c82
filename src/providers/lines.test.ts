import { describe, expect, test } from "vitest";
import { defaultOutputLimits, LineSplitter, OutputLimitError } from "./lines.js";

describe("LineSplitter", () => {
  const text = "plain\näöü €\n\n😀 a\u0301\r\nlast without an end";
  const lines = ["plain", "äöü €", "", "😀 a\u0301", "last without an end"];

  test("gives the same lines wherever the bytes are cut in two", () => {
    const bytes = Buffer.from(text);
    for (let at = 0; at <= bytes.length; at++) {
      const splitter = new LineSplitter();
      const got = [
        ...splitter.push(bytes.subarray(0, at)),
        ...splitter.push(bytes.subarray(at)),
        ...splitter.end(),
      ];
      expect(got).toEqual(lines);
    }
  });

  test("gives the same lines byte by byte", () => {
    const splitter = new LineSplitter();
    const got = [...Buffer.from(text)].flatMap((byte) => splitter.push(Buffer.from([byte])));
    expect([...got, ...splitter.end()]).toEqual(lines);
  });

  test.each([
    ["a line", { maxLineBytes: 4 }, ["12345"]],
    ["a line in pieces", { maxLineBytes: 4 }, ["123", "45"]],
    ["all output", { maxBytes: 5 }, ["12\n", "34\n"]],
    ["the number of lines", { maxLines: 2 }, ["\n\n\n"]],
  ])("limits %s", (_, limits, chunks) => {
    const splitter = new LineSplitter({ ...defaultOutputLimits, ...limits });
    expect(() => {
      for (const chunk of chunks) splitter.push(Buffer.from(chunk));
    }).toThrow(OutputLimitError);
  });
});

test("a new count begins with what is not yet a line", () => {
  const splitter = new LineSplitter({ maxLineBytes: 100, maxBytes: 10, maxLines: 1 });
  expect(splitter.push(Buffer.from("abc\nde"))).toEqual(["abc"]);
  splitter.countAnew();
  expect(splitter.push(Buffer.from("f\n123456"))).toEqual(["def"]);
  expect(() => splitter.push(Buffer.from("789"))).toThrow("more than 10 bytes of output");
});
