/** Clients that people use, unmodified, against the running broker and adapter. */
import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { available } from "../polyglot/programs.js";
import { preparePython } from "../polyglot/python.js";
import { TestBroker } from "../support/broker.js";
import { placed, recipesOf } from "../support/recipes.js";
import { aiSdkClients } from "./clients/ai-sdk.js";
import { checkDuties, type Server } from "./clients/duties.js";
import { langchainClients } from "./clients/langchain.js";
import { PythonClient } from "./clients/python.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));
const openai = fileURLToPath(new URL("../polyglot/python/clients.txt", import.meta.url));
const litellm = fileURLToPath(new URL("clients/litellm.txt", import.meta.url));

let home: string;
let broker: TestBroker;
let adapter: string;
let server: Server;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "clients-"));
  const environment = { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config") };
  const config = JSON.stringify({ providers: [{ id: "claude", claude: { executable, environment } }] });
  broker = await TestBroker.start({ config });
  adapter = await broker.startAdapter();
  server = { baseURL: `${adapter}/v1`, token: broker.token, model: "claude" };
});

afterAll(async () => {
  await broker?.close();
  rmSync(home, { recursive: true, force: true });
});

describe.each([...aiSdkClients, ...langchainClients])("$name", (client) => {
  checkDuties(
    () => client,
    () => server,
  );
});

const pythonClients = [
  { name: "openai for Python", kind: "openai-chat", packages: openai },
  { name: "openai for Python with Responses", kind: "openai-responses", packages: openai },
  { name: "LiteLLM", kind: "litellm", packages: litellm },
];
const prepared = await Promise.all(
  [...new Set(pythonClients.map(({ packages }) => packages))].map(
    async (packages) => [packages, await preparePython("Python", packages)] as const,
  ),
);

for (const { name, kind, packages } of pythonClients) {
  const python = new Map(prepared).get(packages) ?? { missing: "it was not prepared" };
  describe.skipIf("missing" in python)(name, () => {
    let client: PythonClient;

    beforeAll(() => {
      client = new PythonClient(name, available(python), kind, home);
    });

    afterAll(() => client?.close());

    checkDuties(
      () => client,
      () => server,
    );

    if (kind !== "litellm") return;
    it("has a chat by its id, with the recipe of docs/clients", async () => {
      const [code = "", ...others] = recipesOf("litellm", "python");
      expect(others).toEqual([]);
      symlinkSync(broker.data, join(home, ".session-broker"));
      const env = { PATH: process.env.PATH ?? "", HOME: home, LITELLM_LOCAL_MODEL_COST_MAP: "True" };
      const recipe = placed(code, adapter).replace("openai/echo", "openai/claude");
      const options = { cwd: home, env, extendEnv: false };
      const { stdout } = await execa(available(python), ["-c", recipe], options);
      expect(stdout).toContain('turns=2 history=["My name is Ada.","What is my name?"]');
      const key = { scope: "litellm", externalId: "my-litellm-chat", provider: "claude" };
      const { session } = await broker.client().getSession({ selector: { case: "key", value: key } });
      expect(session?.turnCount).toBe(2);
    });
  });
}
