import { create, fromBinary } from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { createClient, createRouterTransport } from "@connectrpc/connect";
import { describe, expect, it } from "vitest";
import {
  ServerReflection,
  type ServerReflectionRequest,
  ServerReflectionRequestSchema,
} from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { ServerReflection as ServerReflectionAlpha } from "../../gen/grpc/reflection/v1alpha/reflection_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { reflectionRoutes } from "./reflection.js";

const transport = createRouterTransport(reflectionRoutes([SessionBroker]));
const client = createClient(ServerReflection, transport);

type Query = ServerReflectionRequest["messageRequest"];

async function ask(...queries: Query[]) {
  async function* requests() {
    for (const messageRequest of queries) {
      yield create(ServerReflectionRequestSchema, { host: "here", messageRequest });
    }
  }
  const responses = [];
  for await (const response of client.serverReflectionInfo(requests())) responses.push(response);
  return responses;
}

async function askOne(query: Query) {
  const [response] = await ask(query);
  return response?.messageResponse;
}

async function filesOf(query: Query): Promise<string[]> {
  const response = await askOne(query);
  if (response?.case !== "fileDescriptorResponse") throw new Error(`no files: ${response?.case}`);
  return response.value.fileDescriptorProto.map((bytes) => fromBinary(FileDescriptorProtoSchema, bytes).name);
}

describe("reflection", () => {
  it("lists the services, sorted", async () => {
    const response = await askOne({ case: "listServices", value: "" });
    expect(response?.value).toMatchObject({
      service: [
        { name: "grpc.reflection.v1.ServerReflection" },
        { name: "grpc.reflection.v1alpha.ServerReflection" },
        { name: "sessionbroker.v1.SessionBroker" },
      ],
    });
  });

  it("gives a file with everything it imports, itself first", async () => {
    const files = await filesOf({ case: "fileByFilename", value: "sessionbroker/v1/turn.proto" });
    expect(files[0]).toBe("sessionbroker/v1/turn.proto");
    expect(new Set(files)).toEqual(
      new Set([
        "sessionbroker/v1/turn.proto",
        "sessionbroker/v1/session.proto",
        "sessionbroker/v1/usage.proto",
        "buf/validate/validate.proto",
        "google/protobuf/descriptor.proto",
        "google/protobuf/duration.proto",
        "google/protobuf/timestamp.proto",
      ]),
    );
    expect(files).toHaveLength(new Set(files).size);
  });

  it.each([
    ["sessionbroker.v1.SessionBroker", "sessionbroker/v1/session_broker.proto"],
    [".sessionbroker.v1.SessionBroker.Dispatch", "sessionbroker/v1/session_broker.proto"],
    ["sessionbroker.v1.SessionKey", "sessionbroker/v1/session.proto"],
    ["sessionbroker.v1.SessionKey.external_id", "sessionbroker/v1/session.proto"],
    ["sessionbroker.v1.HistoryMessage.Author", "sessionbroker/v1/turn.proto"],
    ["sessionbroker.v1.HistoryMessage.AUTHOR_USER", "sessionbroker/v1/turn.proto"],
    ["sessionbroker.v1.TurnEvent.event", "sessionbroker/v1/turn.proto"],
    ["sessionbroker.v1.OUTCOME_CREATED", "sessionbroker/v1/session.proto"],
    ["sessionbroker.v1.required_role", "sessionbroker/v1/options.proto"],
    ["google.protobuf.Timestamp", "google/protobuf/timestamp.proto"],
  ])("finds the file of %s", async (symbol, file) => {
    expect((await filesOf({ case: "fileContainingSymbol", value: symbol }))[0]).toBe(file);
  });

  it("finds extensions", async () => {
    const containingType = "google.protobuf.MethodOptions";
    expect(
      (
        await filesOf({
          case: "fileContainingExtension",
          value: { $typeName: "grpc.reflection.v1.ExtensionRequest", containingType, extensionNumber: 50710 },
        })
      )[0],
    ).toBe("sessionbroker/v1/options.proto");
    expect((await askOne({ case: "allExtensionNumbersOfType", value: containingType }))?.value).toMatchObject(
      {
        baseTypeName: containingType,
        extensionNumber: [50710],
      },
    );
    expect(
      (await askOne({ case: "allExtensionNumbersOfType", value: "sessionbroker.v1.Session" }))?.value,
    ).toMatchObject({ extensionNumber: [] });
  });

  it("answers what it does not know in the stream, and goes on", async () => {
    const responses = await ask(
      { case: "fileByFilename", value: "no/such.proto" },
      { case: "fileContainingSymbol", value: "no.Such" },
      { case: "allExtensionNumbersOfType", value: "no.Such" },
      { case: "listServices", value: "" },
    );
    expect(responses.map(({ messageResponse: { case: kind, value } }) => [kind, value])).toMatchObject([
      ["errorResponse", { errorCode: 5 }],
      ["errorResponse", { errorCode: 5 }],
      ["errorResponse", { errorCode: 5 }],
      ["listServicesResponse", {}],
    ]);
    expect(responses[0]).toMatchObject({
      validHost: "here",
      originalRequest: { host: "here", messageRequest: { case: "fileByFilename", value: "no/such.proto" } },
    });
  });

  it("serves v1alpha alike", async () => {
    const alpha = createClient(ServerReflectionAlpha, transport);
    async function* requests() {
      yield {
        host: "",
        messageRequest: { case: "fileContainingSymbol" as const, value: "sessionbroker.v1.Turn" },
      };
    }
    for await (const response of alpha.serverReflectionInfo(requests())) {
      expect(response.messageResponse.case).toBe("fileDescriptorResponse");
    }
  });
});
