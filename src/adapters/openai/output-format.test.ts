import { describe, expect, it } from "vitest";
import { outputFormatOf } from "./output-format.js";

const schema = { type: "object" };

describe("outputFormatOf", () => {
  it.each([
    [undefined, {}],
    [null, {}],
    [{ type: "text" }, {}],
    [{ type: "json_object" }, { outputFormat: { format: { case: "jsonObject", value: {} } } }],
  ])("%j is %j", (format, wanted) => {
    expect(outputFormatOf(format, "text.format")).toEqual(wanted);
  });

  it("reads a schema where the API has it", () => {
    const value = { name: "n", description: "", schema: JSON.stringify(schema), strict: true };
    const wanted = { outputFormat: { format: { case: "jsonSchema", value } } };
    const named = { name: "n", schema, strict: true };
    expect(outputFormatOf({ type: "json_schema", ...named }, "text.format")).toEqual(wanted);
    expect(
      outputFormatOf({ type: "json_schema", json_schema: named }, "response_format", "json_schema"),
    ).toEqual(wanted);
  });

  it.each([
    ["text", "f"],
    [{ type: "xml" }, "f.type"],
    [{}, "f.type"],
    [{ type: "json_schema" }, "f.name"],
    [{ type: "json_schema", name: "a b" }, "f.name"],
    [{ type: "json_schema", name: "n", schema: "x" }, "f.schema"],
    [{ type: "json_schema", name: "n", strict: 1 }, "f.strict"],
    [{ type: "json_schema", name: "n", description: 1 }, "f.description"],
    [{ type: "json_schema", name: "n", schema: { long: "x".repeat(262_144) } }, "f.schema"],
  ])("%.60j is refused at %s", (format, param) => {
    expect(() => outputFormatOf(format, "f")).toThrow(
      expect.objectContaining({ init: expect.objectContaining({ param }) }),
    );
  });
});
