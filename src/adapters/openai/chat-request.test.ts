import { describe, expect, it } from "vitest";
import { HistoryMessage_Author as Author } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { toChatRequest } from "./chat-request.js";
import { textOf } from "./parts.js";

const user = (content: unknown) => ({ role: "user", content });
const assistant = (content: unknown) => ({ role: "assistant", content });
const text = (value: string) => ({ part: { case: "text", value } });

function request(fields: Readonly<Record<string, unknown>> = {}) {
  return toChatRequest({ model: "echo", messages: [user("hi")], ...fields });
}

function conversation(...messages: unknown[]) {
  return request({ messages }).conversation;
}

describe("toChatRequest", () => {
  it("takes the least there can be", () => {
    expect(request()).toMatchObject({
      model: "echo",
      stream: false,
      includeUsage: false,
      conversation: { system: "", history: [], input: [text("hi")] },
    });
  });

  it("reads how to answer", () => {
    expect(request({ stream: true, stream_options: { include_usage: true } })).toMatchObject({
      stream: true,
      includeUsage: true,
    });
    expect(request({ stream: null, stream_options: null })).toMatchObject({ stream: false });
  });

  it("ignores what changes nothing", () => {
    request({
      ...{ n: 1, tools: [], functions: [], modalities: ["text"], response_format: { type: "text" } },
      ...{ temperature: 0, max_tokens: 5, store: true, metadata: { a: "b" }, user: "u", tool_choice: "auto" },
      ...{ audio: null, n_future: { field: 1 } },
    });
  });

  it.each([
    ["model", { model: undefined }],
    ["model", { model: "" }],
    ["model", { model: 4 }],
    ["stream", { stream: "yes" }],
    ["stream_options", { stream_options: true }],
    ["stream_options.include_usage", { stream_options: { include_usage: 1 } }],
    ["n", { n: 2 }],
    ["n", { n: "1" }],
    ["tools", { tools: [{ type: "function" }] }],
    ["tools", { tools: "x" }],
    ["functions", { functions: [{}] }],
    ["modalities", { modalities: ["text", "audio"] }],
    ["audio", { audio: { voice: "a" } }],
    ["response_format.type", { response_format: { type: "xml" } }],
    ["response_format.json_schema", { response_format: { type: "json_schema" } }],
    ["response_format", { response_format: "text" }],
    ["messages", { messages: undefined }],
    ["messages", { messages: "hi" }],
    ["messages", { messages: [] }],
    ["messages", { messages: [{ role: "system", content: "s" }] }],
    ["messages", { messages: [user("a"), assistant("b")] }],
    ["messages", { messages: [user("")] }],
    ["messages[0]", { messages: ["hi"] }],
    ["messages[1].role", { messages: [user("a"), { content: "b" }] }],
    ["messages[0].role", { messages: [{ role: "robot", content: "b" }] }],
    ["messages[0].content", { messages: [user(5)] }],
    ["messages[0].content[1]", { messages: [user([{ type: "text", text: "a" }, "b"])] }],
    ["messages[0].content[0].text", { messages: [user([{ type: "text" }])] }],
    ["messages[0].content[0].type", { messages: [user([{ type: "input_audio", input_audio: {} }])] }],
    ["messages[0].content[0].image_url", { messages: [user([{ type: "image_url", image_url: "x" }])] }],
    [
      "messages[0].content[0].image_url.url",
      { messages: [user([{ type: "image_url", image_url: { url: "file:///etc/passwd" } }])] },
    ],
    [
      "messages[0].content[0].image_url.url",
      { messages: [user([{ type: "image_url", image_url: { url: "data:image/png;base64,%%" } }])] },
    ],
    [
      "messages[0].content[0].file.file_data",
      { messages: [user([{ type: "file", file: { file_id: "f" } }])] },
    ],
  ])("400 names %s in %j", (param, fields) => {
    expect(() => request(fields)).toThrow(
      expect.objectContaining({
        message: expect.stringContaining(param),
        init: expect.objectContaining({ status: 400, param }),
      }),
    );
  });
});

describe("conversation", () => {
  it("sends what follows the last answer, and tells what came before", () => {
    expect(
      conversation(
        { role: "system", content: "Be brief." },
        user("one"),
        assistant("two"),
        { role: "tool", content: "ignored", tool_call_id: "t" },
        { role: "developer", content: [{ type: "text", text: "Be kind." }] },
        user("three"),
        user([{ type: "text", text: "four" }]),
      ),
    ).toEqual({
      system: "Be brief.\n\nBe kind.",
      history: [
        { author: Author.USER, parts: [text("one")] },
        { author: Author.ASSISTANT, parts: [text("two")] },
      ],
      input: [text("three"), text("four")],
    });
  });

  it("keeps the place of an answer without text", () => {
    expect(conversation(user("a"), assistant(null), user("b")).history).toEqual([
      { author: Author.USER, parts: [text("a")] },
      { author: Author.ASSISTANT, parts: [] },
    ]);
  });

  it("passes images and files on", () => {
    const { input } = conversation(
      user([
        { type: "text", text: "look" },
        { type: "image_url", image_url: { url: "data:image/PNG;base64,iVBORw==", detail: "low" } },
        { type: "file", file: { filename: "ü.txt", file_data: "data:text/plain;charset=utf-8;base64,aGk=" } },
      ]),
    );
    expect(input).toEqual([
      text("look"),
      { part: { case: "image", value: { mediaType: "image/png", data: Buffer.from("iVBORw==", "base64") } } },
      { part: { case: "file", value: { mediaType: "text/plain", data: Buffer.from("hi"), name: "ü.txt" } } },
    ]);
  });

  it("leaves out of the history what cannot be passed on", () => {
    const old = user([
      { type: "text", text: "look" },
      { type: "image_url", image_url: { url: "https://example.com/a.png" } },
      { type: "input_audio", input_audio: {} },
    ]);
    expect(conversation(old, assistant("nice"), user("thanks")).history[0]?.parts).toEqual([text("look")]);
  });

  it("leaves images and files by URL to be fetched", () => {
    const url = "https://example.com/a.png";
    const { input } = conversation(user([{ type: "image_url", image_url: { url } }]));
    expect(input).toEqual([{ url, kind: "image", name: "", param: "messages[0].content[0].image_url.url" }]);
  });

  it("replaces halves of surrogate pairs, which UTF-8 cannot carry", () => {
    expect(conversation(user("a\ud83e b 🦊")).input).toEqual([text("a\ufffd b 🦊")]);
  });

  it("joins texts when there are more than a turn may have", () => {
    const { input } = conversation(...Array.from({ length: 65 }, (_, i) => user(`m${i}`)));
    expect(input).toHaveLength(1);
    expect(textOf(input)).toMatch(/^m0\n\nm1\n\n.*m64$/s);
  });
});

describe("digest", () => {
  it("is of the body less how it is streamed, and of the target", () => {
    const plain = request({ seed: 1 }).digest(["a"]);
    expect(plain).toHaveLength(32);
    expect(request({ seed: 1, stream: true, stream_options: { include_usage: true } }).digest(["a"])).toEqual(
      plain,
    );
    expect(request({ seed: 2 }).digest(["a"])).not.toEqual(plain);
    expect(request({ seed: 1 }).digest(["b"])).not.toEqual(plain);
  });
});
