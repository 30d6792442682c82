import { expect, test } from "vitest";
import { appServerArguments, execArguments } from "./args.js";

const extra = ["-c", "sandbox_mode=workspace-write"];

test.each([
  ["deny", "never", "read-only"],
  ["ask", "on-request", "read-only"],
  ["allow", "never", "danger-full-access"],
] as const)("%s: approvals %s, sandbox %s", (permissions, policy, sandbox) => {
  for (const args of [
    appServerArguments({ permissions, extra: [] }),
    execArguments({ permissions, extra: [], images: [] }),
  ]) {
    expect(args).toContain(`approval_policy=${policy}`);
    expect(args).toContain(`sandbox_mode=${sandbox}`);
    expect(args).toContain("features.plugins=false");
    expect(args).toContain("check_for_update_on_startup=false");
    expect(args).toContain("analytics.enabled=false");
  }
});

test("configured arguments come last", () => {
  expect(appServerArguments({ permissions: "deny", extra }).slice(-2)).toEqual(extra);
  const args = execArguments({
    permissions: "deny",
    extra,
    model: "-m",
    images: ["/a b.png"],
    schema: "/s",
    resume: "id",
  });
  expect(args.slice(0, 2)).toEqual(["exec", "resume"]);
  expect(args.slice(-7)).toEqual([
    "--model=-m",
    "--image=/a b.png",
    "--output-schema=/s",
    ...extra,
    "id",
    "-",
  ]);
});

test("the prompt is read from the input", () => {
  const args = execArguments({ permissions: "deny", extra: [], images: [] });
  expect(args[0]).toBe("exec");
  expect(args.at(-1)).toBe("-");
});
