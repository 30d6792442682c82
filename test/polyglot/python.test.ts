/** A Python program with grpcio and the stubs that grpcio-tools makes. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, it } from "vitest";
import type { TestBroker } from "../support/broker.js";
import { checkReport, startBroker } from "./journey.js";
import { attempt, available, cached, prepare, runClient } from "./programs.js";

const folder = fileURLToPath(new URL("python", import.meta.url));
const proto = fileURLToPath(new URL("../../proto", import.meta.url));

const python = await prepare("Python", async () => {
  const requirements = join(folder, "requirements.txt");
  const version = await attempt("python3", ["-c", "import sys; print(sys.executable, sys.version)"]);
  const directory = await cached("python", [version, readFileSync(requirements, "utf8")], async (draft) => {
    await attempt("python3", ["-m", "venv", draft]);
    const pip = ["-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--only-binary", ":all:"];
    await attempt(join(draft, "bin", "python"), [...pip, "--requirement", requirements]);
  });
  return join(directory, "bin", "python");
});

describe.skipIf("missing" in python)("Python with grpcio", () => {
  let broker: TestBroker;
  let stubs: string;

  beforeAll(async () => {
    stubs = mkdtempSync(join(tmpdir(), "polyglot-python-"));
    const out = [`--python_out=${stubs}`, `--grpc_python_out=${stubs}`];
    const services = ["session_broker", "admin", "lane", "options", "selection", "session", "turn", "usage"];
    const files = [
      ...services.map((name) => `sessionbroker/v1/${name}.proto`),
      "buf/validate/validate.proto",
    ];
    await execa(available(python), ["-m", "grpc_tools.protoc", "-I", proto, ...out, ...files]);
    broker = await startBroker();
  });

  afterAll(async () => {
    await broker?.close();
    rmSync(stubs, { recursive: true, force: true });
  });

  const take = async (name: string, environment: Readonly<Record<string, string>> = {}) => {
    const command = [available(python), join(folder, "client.py")] as const;
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
