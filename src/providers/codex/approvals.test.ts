import { expect, test } from "vitest";
import { codexCapture, paramsOf } from "../../../test/providers/codex-captures.js";
import { answerToOther, parseQuestion } from "./approvals.js";

test("a command is asked for with what it is, and allowed once", () => {
  const method = "item/commandExecution/requestApproval";
  const [params] = paramsOf(codexCapture("app-server", "asks for a command"), method);
  expect(parseQuestion(method, params ?? {})).toEqual({
    tool: "commandExecution",
    input: { command: "/bin/bash -lc 'touch a'", cwd: "/home/user/ws", reason: "why" },
    allowed: { decision: "accept" },
    denied: { decision: "decline" },
  });
});

test("a patch is asked for", () => {
  const method = "item/fileChange/requestApproval";
  const [params] = paramsOf(codexCapture("app-server", "asks for a patch"), method);
  expect(parseQuestion(method, params ?? {})).toMatchObject({ tool: "fileChange", input: {} });
});

test("permissions are granted as asked for, for the turn", () => {
  const params = { permissions: { network: { enabled: true }, fileSystem: null }, cwd: "/ws", reason: null };
  expect(parseQuestion("item/permissions/requestApproval", params)).toMatchObject({
    tool: "permissions",
    allowed: { permissions: { network: { enabled: true } }, scope: "turn" },
    denied: { permissions: {}, scope: "turn" },
  });
});

test("what asks for something else is no question", () => {
  expect(parseQuestion("item/tool/requestUserInput", {})).toBeUndefined();
  expect(answerToOther("item/tool/requestUserInput")).toEqual({ answers: {} });
  expect(answerToOther("mcpServer/elicitation/request")).toMatchObject({ action: "decline" });
  expect(answerToOther("attestation/generate")).toBeUndefined();
});
