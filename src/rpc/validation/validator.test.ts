import { create, type DescMessage, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import { createValidator, type ValidationResult } from "@bufbuild/protovalidate";
import { describe, expect, it } from "vitest";
import { ResolveSelectionRequestSchema } from "../../../gen/sessionbroker/v1/selection_pb.js";
import { GetSessionRequestSchema, ReserveRequestSchema } from "../../../gen/sessionbroker/v1/session_pb.js";
import { DispatchRequestSchema, HistoryMessage_Author } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { messageChecks, requestValidator } from "./validator.js";

const key = { scope: "acme/telegram", externalId: "chat:Zürich 😀", provider: "claude" };
const sessionId = "0193c1d2-7a54-7cc3-9d0b-3f6b1e0a8c11";
const labels = { team: "support" };
const said = { part: { case: "text", value: "Hello" } } as const;
const resolve = ResolveSelectionRequestSchema;

describe("the usual requests do not need protovalidate", () => {
  it.each([
    request("Reserve", ReserveRequestSchema, { key }),
    request("Reserve with all", ReserveRequestSchema, {
      key,
      sessionId,
      aliases: ["thread/1", "ä"],
      resetPolicy: { idle: { seconds: 3600n }, daily: { hour: 4, timeZone: "Europe/Berlin" } },
      workspace: "main",
      labels,
      idempotencyKey: "k-1",
      expectedGeneration: 2,
    }),
    request("a key", resolve, { selector: { case: "key", value: key } }),
    request("a session id", resolve, { selector: { case: "sessionId", value: sessionId }, scope: "acme" }),
    request("a native id", resolve, { selector: { case: "nativeId", value: "abc" }, provider: "claude" }),
    request("an alias", resolve, { selector: { case: "alias", value: "thread/1" }, agent: "main" }),
    request("a turn id", resolve, { selector: { case: "turnId", value: "turn-1" } }),
    request("a short id", resolve, { selector: { case: "shortId", value: "0193c1d2" } }),
    request("GetSession", GetSessionRequestSchema, { selector: { case: "sessionId", value: sessionId } }),
    request("Dispatch by key", DispatchRequestSchema, { target: { case: "key", value: key }, input: [said] }),
    request("Dispatch with all", DispatchRequestSchema, {
      target: { case: "byHistory", value: { scope: "acme", provider: "claude" } },
      turnId: "turn:1",
      input: [said, { part: { case: "image", value: { mediaType: "image/png", data: new Uint8Array(9) } } }],
      history: [{ author: HistoryMessage_Author.USER, parts: [said] }],
      system: "Be kind.",
      model: "claude-sonnet/4.5",
      timeout: { seconds: 60n },
      queueTimeout: { seconds: 5n, nanos: 1 },
      reserve: { aliases: ["a"], labels },
      labels,
      payloadDigest: new Uint8Array(32),
      outputFormat: { format: { case: "jsonSchema", value: { name: "a", schema: "{}" } } },
    }),
  ])("%s", (_, desc, message) => {
    expect(messageChecks()(desc)(message)).toBe(true);
    expect(requestValidator().validate(desc, message)).toEqual(createValidator().validate(desc, message));
  });
});

it("violations are worded by protovalidate", () => {
  const message = create(DispatchRequestSchema, {
    turnId: "no turn",
    target: { case: "key", value: { ...key, scope: "" } },
  });
  const results = [requestValidator(), createValidator()].map((validator) =>
    worded(validator.validate(DispatchRequestSchema, message)),
  );
  expect(results[0]).toEqual(results[1]);
  expect(results[0]).toHaveLength(3);
});

function worded({ violations }: ValidationResult<Message>): string[] | undefined {
  return violations?.map(String);
}

function request<Desc extends DescMessage>(
  name: string,
  desc: Desc,
  init: MessageInitShape<Desc>,
): [string, DescMessage, Message] {
  return [name, desc, create(desc, init)];
}
