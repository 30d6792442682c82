/** Clients that people use, unmodified, against the running broker and adapter. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe } from "vitest";
import { available } from "../polyglot/programs.js";
import { preparePython } from "../polyglot/python.js";
import { TestBroker } from "../support/broker.js";
import { aiSdkClients } from "./clients/ai-sdk.js";
import { checkDuties, type Server } from "./clients/duties.js";
import { langchainClients } from "./clients/langchain.js";
import { PythonClient } from "./clients/python.js";

const executable = fileURLToPath(new URL("../fixtures/fake-claude.mjs", import.meta.url));
const openai = fileURLToPath(new URL("../polyglot/python/clients.txt", import.meta.url));
const litellm = fileURLToPath(new URL("clients/litellm.txt", import.meta.url));

let home: string;
let broker: TestBroker;
let server: Server;

beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "clients-"));
  const environment = { HOME: home, CLAUDE_CONFIG_DIR: join(home, "config") };
  const config = JSON.stringify({ providers: [{ id: "claude", claude: { executable, environment } }] });
  broker = await TestBroker.start({ config });
  server = { baseURL: `${await broker.startAdapter()}/v1`, token: broker.token, model: "claude" };
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
  });
}
