/** A Python program with grpcio and the stubs that grpcio-tools makes. */
import { rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, it } from "vitest";
import type { TestBroker } from "../support/broker.js";
import { checkReport, startBroker } from "./journey.js";
import { available, runClient } from "./programs.js";
import { generateStubs, preparePython } from "./python.js";

const program = fileURLToPath(new URL("python/client.py", import.meta.url));
const python = await preparePython("Python");

describe.skipIf("missing" in python)("Python with grpcio", () => {
  let broker: TestBroker;
  let stubs: string;

  beforeAll(async () => {
    stubs = await generateStubs(available(python));
    broker = await startBroker();
  });

  afterAll(async () => {
    await broker?.close();
    rmSync(stubs, { recursive: true, force: true });
  });

  const take = async (name: string, environment: Readonly<Record<string, string>> = {}) => {
    const command = [available(python), program] as const;
    const own = { PYTHONPATH: stubs, PYTHONUTF8: "1" };
    checkReport(await runClient(command, broker, name, { ...own, ...environment }), name);
  };

  it("takes the journey over tcp", () => take("python-tcp"));

  it("takes the journey over the unix socket with an authority of its own", () =>
    take("python-authority", { BROKER_URL: `unix:${broker.socket}`, BROKER_AUTHORITY: "localhost" }));

  // The authority that gRPC's C core sends by default is the path of the socket, percent-encoded; it is no
  // host name, and the request is answered with 400.
  it("takes the journey over the unix socket", () =>
    take("python-unix", { BROKER_URL: `unix:${broker.socket}` }));
});
