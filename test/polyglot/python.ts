/** Python with the packages of python/requirements.txt, and the stubs that grpcio-tools makes. */
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { attempt, cached, type Prepared, prepare } from "./programs.js";

const requirements = fileURLToPath(new URL("python/requirements.txt", import.meta.url));
const proto = fileURLToPath(new URL("../../proto", import.meta.url));
const files = ["session_broker", "admin", "lane", "options", "selection", "session", "turn", "usage"];

/** The path of an interpreter. Default: with the packages of the gRPC client. */
export function preparePython(what: string, packages = requirements): Promise<Prepared<string>> {
  return prepare(what, async () => {
    const version = await attempt("python3", ["-c", "import sys; print(sys.executable, sys.version)"]);
    const directory = await cached("python", [version, readFileSync(packages, "utf8")], async (draft) => {
      await attempt("python3", ["-m", "venv", draft]);
      const pip = [
        "-m",
        "pip",
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--only-binary",
        ":all:",
      ];
      await attempt(join(draft, "bin", "python"), [...pip, "--requirement", packages]);
    });
    return join(directory, "bin", "python");
  });
}

/** A new directory, to be removed by the caller. */
export async function generateStubs(python: string): Promise<string> {
  const stubs = mkdtempSync(join(tmpdir(), "polyglot-python-"));
  const out = [`--python_out=${stubs}`, `--grpc_python_out=${stubs}`];
  const names = [...files.map((name) => `sessionbroker/v1/${name}.proto`), "buf/validate/validate.proto"];
  await execa(python, ["-m", "grpc_tools.protoc", "-I", proto, ...out, ...names]);
  return stubs;
}
