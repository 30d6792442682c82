/** @grpc/grpc-js, with the proto files loaded as the program runs. */
import { fileURLToPath } from "node:url";
import {
  Client,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
  type ServiceError,
  status,
} from "@grpc/grpc-js";
import { fromJSON, loadSync, type MessageTypeDefinition } from "@grpc/proto-loader";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { TestBroker } from "../support/broker.js";
import {
  type Answer,
  type Call,
  checkReport,
  type Failure,
  service,
  startBroker,
  takeJourney,
} from "./journey.js";

const definitions = loadSync(["sessionbroker/v1/session_broker.proto", "grpc/health/v1/health.proto"], {
  includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url))],
  enums: String,
  longs: String,
  oneofs: true,
});

/** google.rpc.Status, which comes with no package here. */
const Status = fromJSON({
  nested: {
    Any: { fields: { typeUrl: { type: "string", id: 1 }, value: { type: "bytes", id: 2 } } },
    Status: {
      fields: {
        message: { type: "string", id: 2 },
        details: { rule: "repeated", type: "Any", id: 3 },
      },
    },
  },
}).Status as MessageTypeDefinition<object, StatusMessage>;

interface StatusMessage {
  readonly message?: string;
  readonly details?: readonly { readonly typeUrl: string; readonly value: Buffer }[];
}

let broker: TestBroker;
beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.close());

describe.each(["tcp", "unix"])("@grpc/grpc-js over %s", (route) => {
  let client: Client;
  beforeAll(() => {
    const target = route === "tcp" ? `127.0.0.1:${broker.port}` : `unix:${broker.socket}`;
    client = new Client(target, credentials.createInsecure());
  });
  afterAll(() => client.close());

  it("takes the journey", async () => {
    const name = `grpc-js-${route}`;
    const call: Call = (method, request, { token, timeoutMs }) =>
      invoke(client, methodOf(service, method), request, token, timeoutMs);
    checkReport(await takeJourney(call, broker.token, name), name);
  });

  it("asks for the health without a token", async () => {
    const check = methodOf("grpc.health.v1.Health", "Check");
    expect(await invoke(client, check, { service })).toEqual({ messages: [{ status: "SERVING" }] });
    expect((await invoke(client, check, { service: "no.such.Service" })).failure?.code).toBe("not_found");
  });

  // connect-es escapes ":", "/" and "$" in grpc-message, which gRPC does not ask for, and grpc-js leaves
  // exactly these escaped: "key.scope%3A ...".
  it("shows the message of an error as it was written", async () => {
    const key = { scope: "NOT VALID", externalId: "1", provider: "echo" };
    const { failure } = await invoke(client, methodOf(service, "Reserve"), { key }, broker.token);
    expect((failure as GrpcFailure).plainMessage).toBe(failure?.message);
  });

  it("is told that a method is unknown", async () => {
    const unknown = { ...methodOf(service, "GetServerInfo"), path: `/${service}/NoSuchMethod` };
    expect((await invoke(client, unknown, {}, broker.token)).failure?.code).toBe("unimplemented");
  });
});

type Method = MethodDefinition<object, object>;

/** Its message is that of google.rpc.Status, where there is one. */
interface GrpcFailure extends Failure {
  /** The message from grpc-message, as grpc-js decodes it. */
  readonly plainMessage: string;
}

function methodOf(serviceName: string, name: string): Method {
  const method = (definitions[serviceName] as unknown as ServiceDefinition)[name];
  if (method === undefined) throw new Error(`${serviceName} has no ${name}`);
  return method as Method;
}

function invoke(
  client: Client,
  method: Method,
  request: object,
  token?: string,
  timeoutMs?: number,
): Promise<Answer> {
  const { path, requestSerialize, responseDeserialize } = method;
  const metadata = new Metadata();
  if (token !== undefined) metadata.set("authorization", `Bearer ${token}`);
  const options = timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
  return new Promise((resolve) => {
    const messages: object[] = [];
    if (method.responseStream) {
      client
        .makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, metadata, options)
        .on("data", (message: object) => messages.push(message))
        .on("error", (error: ServiceError) => resolve({ messages, failure: failureOf(error) }))
        .on("end", () => resolve({ messages }));
    } else {
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        options,
        (error, message) =>
          resolve(
            error !== null ? { messages, failure: failureOf(error) } : { messages: message ? [message] : [] },
          ),
      );
    }
  });
}

function failureOf(error: ServiceError): GrpcFailure {
  const [bytes] = error.metadata.get("grpc-status-details-bin");
  const rich = bytes instanceof Buffer ? Status.deserialize(bytes) : {};
  return {
    code: (status[error.code] ?? "").toLowerCase(),
    message: rich.message ?? error.details,
    details: (rich.details ?? []).map(({ typeUrl, value }) => ({
      type: typeUrl.replace(/^.*\//, ""),
      value: value.toString("base64"),
    })),
    plainMessage: error.details,
  };
}
