/** What the pages for people say of other files and of errors. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { TurnErrorCode } from "../../gen/sessionbroker/v1/turn_pb.js";
import { errorTable } from "../../src/errors.js";

const root = fileURLToPath(new URL("../..", import.meta.url));
const pages = ["docs", "examples", "."].flatMap((folder) =>
  readdirSync(join(root, folder), { recursive: folder !== "." })
    .map((name) => join(folder, String(name)))
    .filter((name) => name.endsWith(".md") && !name.includes("node_modules")),
);

describe("links", () => {
  it.each(pages)("of %s lead somewhere", (page) => {
    const text = readFileSync(join(root, page), "utf8");
    const links = [...text.matchAll(/\]\(([^)#\s]*)(?:#([^)\s]*))?\)/g)].filter(
      ([, file = ""]) => !/^[a-z]+:/.test(file),
    );
    const broken = links.filter(([, file = "", heading]) => {
      const target = file === "" ? join(root, page) : join(root, dirname(page), file);
      if (!existsSync(target)) return true;
      if (heading === undefined || !target.endsWith(".md")) return false;
      return !headingsOf(readFileSync(target, "utf8")).has(heading);
    });
    expect(broken.map(([link]) => link)).toEqual([]);
  });
});

it("docs/operations.md names errors that there are", () => {
  const text = readFileSync(join(root, "docs/operations.md"), "utf8");
  const tables = text
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .join("\n");
  const named = [...tables.matchAll(/`(?!SESSION_BROKER_)([A-Z][A-Z_]{3,})`/g)].flatMap(
    ([, name = ""]) => name,
  );
  const turnErrors = Object.keys(TurnErrorCode);
  const endings = ["FAILED", "INTERRUPTED"];
  const known = new Set<string>([...Object.keys(errorTable), ...turnErrors, ...endings]);
  expect(named.length).toBeGreaterThan(10);
  expect(named.filter((name) => !known.has(name))).toEqual([]);
});

/** As the web shows them: lower case, spaces as hyphens, other signs left out. */
function headingsOf(text: string): Set<string> {
  const headings = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
  return new Set(headings);
}
