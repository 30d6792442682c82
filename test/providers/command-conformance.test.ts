import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { CommandSchema } from "../../gen/sessionbroker/config/v1/config_pb.js";
import { createCommandProvider } from "../../src/providers/command/index.js";
import { commonDefaults } from "../../src/providers/kind.js";
import { describeConformance, type Subject } from "./conformance.js";

const program = fileURLToPath(new URL("../fixtures/remembering-program.mjs", import.meta.url));
const jsonLines = { text: "text", nativeId: "id", end: "type", endValue: "done" };

type Recipe = (
  run: (...more: string[]) => string[],
) => MessageInitShape<typeof CommandSchema> & { readonly jsonLines?: typeof jsonLines };

const recipes: readonly (readonly [string, Recipe])[] = [
  [
    "that writes text, under ids of the broker",
    (run) => ({ first: run("--begin={native_id}"), resumed: run("--resume={native_id}") }),
  ],
  [
    "that writes records, under ids of its own",
    (run) => ({ first: run("--records"), resumed: run("--records", "--resume={native_id}"), jsonLines }),
  ],
  ["that remembers nothing", (run) => ({ first: run() })],
];

/** A program that remembers nothing is told of the earlier turns in its prompt. */
function promptsOf(answer: string): readonly string[] {
  const prompts: string[] = JSON.parse(/history=(\[.*\])$/s.exec(answer)?.[1] ?? "[]");
  const told = /^<earlier_conversation>\n.*\n(\[.*\])\n.*\n<\/earlier_conversation>\n\n([\s\S]*)$/;
  return prompts.flatMap((prompt) => {
    const [, exchanges = "[]", said = prompt] = told.exec(prompt) ?? [];
    return [...JSON.parse(exchanges).map(({ user }: { readonly user: string }) => user), said];
  });
}

async function open(recipe: Recipe): Promise<Subject> {
  const root = mkdtempSync(join(tmpdir(), "command-conformance-"));
  const [workspace, store] = [join(root, "workspace"), join(root, "store")];
  for (const folder of [workspace, store]) mkdirSync(folder);
  const command = recipe((...more) => [process.execPath, program, `--store=${store}`, ...more]);
  return {
    workspace,
    provider: (settings = {}) =>
      createCommandProvider({
        id: "program",
        models: [],
        ...commonDefaults,
        inherit: [],
        parentEnvironment: { PATH: process.env.PATH },
        command: create(CommandSchema, command),
        ...settings,
      }),
    promptsOf,
    words: {
      hang: "[[hang]]",
      crash: "[[crash]]",
      silent: "[[silent]]",
      // Text is an answer, and an answer may be longer than the output of an agent that writes records.
      flood: "[[flood 33]]",
      bytes: "[[bytes]]",
      orphan: (file) => `[[orphan ${file}]]`,
      // Of text nobody can tell that there was to be more.
      ...(command.jsonLines === undefined ? {} : { cut: "[[cut]]" }),
    },
    close: async () => rmSync(root, { recursive: true, force: true }),
  };
}

for (const [name, recipe] of recipes) {
  describeConformance({ name: `a program ${name}`, skip: false, open: () => open(recipe) });
}
