/**
 * grpc.reflection.v1 and v1alpha: says what this server serves, so that tools
 * such as `buf curl` need no schema.
 */
import {
  type DescExtension,
  type DescFile,
  type DescMessage,
  type DescService,
  toBinary,
} from "@bufbuild/protobuf";
import { FileDescriptorProtoSchema } from "@bufbuild/protobuf/wkt";
import { Code, type ConnectRouter } from "@connectrpc/connect";
import {
  ServerReflection,
  type ServerReflectionRequest,
} from "../../gen/grpc/reflection/v1/reflection_pb.js";
import {
  ServerReflection as ServerReflectionAlpha,
  type ServerReflectionRequest as ServerReflectionRequestAlpha,
} from "../../gen/grpc/reflection/v1alpha/reflection_pb.js";
import { openToAll } from "./open-to-all.js";

/** Serves reflection over these services, the reflection services themselves, and every file they import. */
export function reflectionRoutes(services: readonly DescService[]): (router: ConnectRouter) => void {
  const listed = [...services, ServerReflection, ServerReflectionAlpha];
  const index = indexFiles(listed.map((service) => service.file));
  const names = listed
    .map((service) => ({ name: service.typeName }))
    .sort((a, b) => (a.name < b.name ? -1 : 1));

  // The two versions differ in the names of their messages only.
  async function* answerAll<Request extends ServerReflectionRequest | ServerReflectionRequestAlpha>(
    requests: AsyncIterable<Request>,
  ) {
    for await (const request of requests) {
      yield {
        validHost: request.host,
        originalRequest: request,
        messageResponse: answer(request.messageRequest, index, names),
      };
    }
  }

  return (router) => {
    router.service(
      ServerReflection,
      {
        serverReflectionInfo: (requests) => answerAll(requests),
      },
      openToAll,
    );
    router.service(
      ServerReflectionAlpha,
      {
        serverReflectionInfo: (requests) => answerAll(requests),
      },
      openToAll,
    );
  };
}

/** What both versions can send. */
type Answer =
  | { readonly case: "listServicesResponse"; readonly value: { readonly service: { name: string }[] } }
  | {
      readonly case: "fileDescriptorResponse";
      readonly value: { readonly fileDescriptorProto: Uint8Array[] };
    }
  | {
      readonly case: "allExtensionNumbersResponse";
      readonly value: { readonly baseTypeName: string; readonly extensionNumber: number[] };
    }
  | {
      readonly case: "errorResponse";
      readonly value: { readonly errorCode: number; readonly errorMessage: string };
    };

type Query = (ServerReflectionRequest | ServerReflectionRequestAlpha)["messageRequest"];

function answer(query: Query, index: FileIndex, services: { name: string }[]): Answer {
  switch (query.case) {
    case "listServices":
      return { case: "listServicesResponse", value: { service: services } };
    case "fileByFilename":
      return fileAnswer(index.byName.get(query.value), `file ${query.value}`);
    case "fileContainingSymbol":
      return fileAnswer(index.bySymbol.get(query.value.replace(/^\./, "")), `symbol ${query.value}`);
    case "fileContainingExtension": {
      const { containingType, extensionNumber } = query.value;
      const extension = index.extensions.get(containingType)?.get(extensionNumber);
      return fileAnswer(extension?.file, `extension ${extensionNumber} of ${containingType}`);
    }
    case "allExtensionNumbersOfType": {
      const extensions = index.extensions.get(query.value);
      if (extensions === undefined && index.bySymbol.get(query.value) === undefined) {
        return errorAnswer(Code.NotFound, `type ${query.value} not found`);
      }
      return {
        case: "allExtensionNumbersResponse",
        value: { baseTypeName: query.value, extensionNumber: [...(extensions?.keys() ?? [])] },
      };
    }
    default:
      return errorAnswer(Code.InvalidArgument, "the request asks nothing");
  }
}

function fileAnswer(file: DescFile | undefined, what: string): Answer {
  if (file === undefined) return errorAnswer(Code.NotFound, `${what} not found`);
  return {
    case: "fileDescriptorResponse",
    value: {
      fileDescriptorProto: withDependencies([file]).map(({ proto }) =>
        toBinary(FileDescriptorProtoSchema, proto),
      ),
    },
  };
}

function errorAnswer(errorCode: Code, errorMessage: string): Answer {
  return { case: "errorResponse", value: { errorCode, errorMessage } };
}

interface FileIndex {
  readonly byName: ReadonlyMap<string, DescFile>;
  /** By full name of a message, field, oneof, enum, enum value, extension, service or method. */
  readonly bySymbol: ReadonlyMap<string, DescFile>;
  /** By full name of the extended message, then by field number. */
  readonly extensions: ReadonlyMap<string, ReadonlyMap<number, DescExtension>>;
}

function indexFiles(roots: readonly DescFile[]): FileIndex {
  const byName = new Map<string, DescFile>();
  const bySymbol = new Map<string, DescFile>();
  const extensions = new Map<string, Map<number, DescExtension>>();
  for (const file of withDependencies(roots)) {
    byName.set(file.proto.name, file);
    for (const symbol of symbolsOf(file)) bySymbol.set(symbol, file);
    for (const extension of extensionsOf(file)) {
      const numbers = extensions.get(extension.extendee.typeName) ?? new Map<number, DescExtension>();
      extensions.set(extension.extendee.typeName, numbers.set(extension.number, extension));
    }
  }
  return { byName, bySymbol, extensions };
}

/** The files, then everything they import, each once. */
function withDependencies(roots: readonly DescFile[]): DescFile[] {
  const files = new Map<string, DescFile>();
  const queue = [...roots];
  for (let file = queue.shift(); file !== undefined; file = queue.shift()) {
    if (files.has(file.proto.name)) continue;
    files.set(file.proto.name, file);
    queue.push(...file.dependencies);
  }
  return [...files.values()];
}

function* symbolsOf(file: DescFile): Generator<string> {
  for (const message of messagesOf(file.messages)) {
    yield message.typeName;
    for (const member of [...message.fields, ...message.oneofs]) yield `${message.typeName}.${member.name}`;
  }
  const enums = [...file.enums, ...[...messagesOf(file.messages)].flatMap((message) => message.nestedEnums)];
  for (const desc of enums) {
    yield desc.typeName;
    // The values of an enum are its siblings by name, not its children.
    const parent = desc.typeName.slice(0, desc.typeName.lastIndexOf(".") + 1);
    for (const value of desc.values) yield `${parent}${value.name}`;
  }
  for (const extension of extensionsOf(file)) yield extension.typeName;
  for (const service of file.services) {
    yield service.typeName;
    for (const method of service.methods) yield `${service.typeName}.${method.name}`;
  }
}

function* extensionsOf(file: DescFile): Generator<DescExtension> {
  yield* file.extensions;
  for (const message of messagesOf(file.messages)) yield* message.nestedExtensions;
}

function* messagesOf(messages: readonly DescMessage[]): Generator<DescMessage> {
  for (const message of messages) {
    yield message;
    yield* messagesOf(message.nestedMessages);
  }
}
