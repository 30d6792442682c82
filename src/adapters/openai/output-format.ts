/** The form of an answer, as the APIs ask for it. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { OutputFormatSchema } from "../../../gen/sessionbroker/v1/turn_pb.js";
import { invalid } from "./errors.js";
import { isObject } from "./parts.js";

/** Absent: text. */
export interface WantedFormat {
  readonly outputFormat?: MessageInitShape<typeof OutputFormatSchema>;
}

/**
 * @param format what the request has at `param`
 * @param schemaAt where the fields of a schema stand: the same object (Responses), or `json_schema` in it (Chat)
 * @throws ApiError 400 that names the field
 */
export function outputFormatOf(format: unknown, param: string, schemaAt?: "json_schema"): WantedFormat {
  if (format === null || format === undefined) return {};
  if (!isObject(format)) throw invalid(param, `${param} is not an object`);
  switch (format.type) {
    case "text":
      return {};
    case "json_object":
      return { outputFormat: { format: { case: "jsonObject", value: {} } } };
    case "json_schema":
      return schemaAt === undefined
        ? jsonSchema(format, param)
        : jsonSchema(format[schemaAt], `${param}.${schemaAt}`);
    default:
      throw invalid(
        `${param}.type`,
        `${param}.type is not one of text, json_object, json_schema`,
        "unsupported_value",
      );
  }
}

export function jsonSchema(value: unknown, param: string): WantedFormat {
  if (!isObject(value)) throw invalid(param, `${param} is not an object`);
  const { name, description = null, schema = {}, strict = null } = value;
  if (typeof name !== "string" || !/^[A-Za-z0-9_-]{1,64}$/.test(name)) {
    throw invalid(`${param}.name`, `${param}.name is not a name of 1 to 64 of A-Z, a-z, 0-9, _ and -`);
  }
  if (!isObject(schema)) throw invalid(`${param}.schema`, `${param}.schema is not an object`);
  if (strict !== null && typeof strict !== "boolean") {
    throw invalid(`${param}.strict`, `${param}.strict is not a boolean`);
  }
  if (description !== null && typeof description !== "string") {
    throw invalid(`${param}.description`, `${param}.description is not a string`);
  }
  const text = JSON.stringify(schema);
  if (Buffer.byteLength(text) > mostSchemaBytes) {
    throw invalid(`${param}.schema`, `${param}.schema has more than 256 KiB`);
  }
  return {
    outputFormat: {
      format: {
        case: "jsonSchema",
        value: { name, description: description ?? "", schema: text, strict: strict ?? false },
      },
    },
  };
}

const mostSchemaBytes = 256 * 1024;
