import { expect, test } from "vitest";
import { prefaceOf } from "./preface.js";

const unseen = [{ user: "I am Ada", assistant: "Hello" }];
const system = "<system_prompt>\nBe brief.\n</system_prompt>";
const notice = "Be long.";

test.each([
  ["fresh", { system: "Be brief.", unseen: [] }, [system]],
  ["provisional", { system: "Be brief.", unseen: [] }, [system]],
  ["bound", { system: "Be brief.", unseen: [] }, []],
  ["bound", { system: "Be brief.", systemNotice: "Be long.", unseen: [] }, [notice]],
  ["fresh", { unseen }, [expect.stringContaining(JSON.stringify(unseen))]],
  ["fresh", { system: "", unseen: [] }, []],
] as const)("of a conversation that is %s: %j", (state, fields, blocks) => {
  expect(prefaceOf({ binding: { state }, ...fields })).toEqual(blocks);
});
