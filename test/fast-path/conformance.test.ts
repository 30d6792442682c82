/**
 * The public conformance suite for Connect, gRPC and gRPC-Web, run as its users run it:
 * https://github.com/connectrpc/conformance. Its binary and its contract are kept in
 * node_modules/.cache/session-broker. Skipped where Go or the module cannot be had.
 */
import {
  appendFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { attempt, available, installMs, prepare } from "../polyglot/programs.js";

const pinned = "connectrpc.com/conformance@v1.0.7";
const root = fileURLToPath(new URL("../..", import.meta.url));
const server = fileURLToPath(new URL("conformance-server.mjs", import.meta.url));
const suiteMs = 120_000;

const features = {
  versions: ["HTTP_VERSION_1", "HTTP_VERSION_2"],
  protocols: ["PROTOCOL_CONNECT", "PROTOCOL_GRPC", "PROTOCOL_GRPC_WEB"],
  codecs: ["CODEC_PROTO", "CODEC_JSON"],
  compressions: ["COMPRESSION_IDENTITY", "COMPRESSION_GZIP"],
  supportsH2c: true,
  supportsTls: false,
  supportsTrailers: true,
  supportsConnectGet: true,
  supportsMessageReceiveLimit: true,
};

/**
 * connect-node answers such a request and closes its HTTP/1.1 connection while the client is still
 * sending, so that the client may see the end of the connection instead of the answer. So it is with
 * and without the fast path, which answers neither of them.
 */
const flaky = [
  "Server Message Size/HTTPVersion:1/**/client-stream/**",
  "Server Message Size/HTTPVersion:1/Protocol:PROTOCOL_GRPC_WEB/**",
];

interface Suite {
  readonly program: string;
  readonly descriptors: string;
}

const suite = await prepare("Connect conformance", async (): Promise<Suite> => {
  const version = await attempt("go", ["version"]);
  const key = `${pinned} ${version}`.replaceAll(/[^\w.]+/g, "-");
  const folder = join(root, "node_modules", ".cache", "session-broker", key);
  const built = { program: join(folder, "connectconformance"), descriptors: join(folder, "suite.binpb") };
  if (existsSync(folder)) return built;
  const draft = `${folder}.${process.pid}`;
  mkdirSync(draft, { recursive: true });
  try {
    const [module = "", release] = pinned.split("@");
    const env = { GOBIN: draft, GOFLAGS: "-mod=mod" };
    await attempt("go", ["install", `${module}/cmd/connectconformance@${release}`], { cwd: draft, env });
    const { Dir } = JSON.parse(
      await attempt("go", ["mod", "download", "-json", pinned], { cwd: draft, env }),
    );
    const buf = join(root, "node_modules", ".bin", "buf");
    await execa(buf, ["build", join(Dir, "proto"), "-o", join(draft, "suite.binpb")]);
    renameSync(draft, folder);
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
  return built;
});

/** For the closing lines of `npm run verify`. */
function report(line: string): void {
  const file = process.env.SESSION_BROKER_TEST_CONFORMANCE;
  if (file !== undefined) appendFileSync(file, `connect conformance: ${line}\n`);
}

if ("missing" in suite) report(`SKIPPED: Go or the suite is missing: ${suite.missing}`);

describe.skipIf("missing" in suite)(pinned, () => {
  let folder: string;

  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), "connect-conformance-"));
    writeFileSync(join(folder, "config.yaml"), JSON.stringify({ features }));
  }, installMs);

  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  it.each(["on", "off"])(
    "finds nothing wrong with the fast path %s",
    async (fastPath) => {
      const { program, descriptors } = available(suite);
      const options = ["--mode", "server", "--conf", join(folder, "config.yaml"), "--max-servers", "2"];
      const tolerated = flaky.flatMap((pattern) => ["--known-flaky", pattern]);
      const { stdout, stderr, exitCode } = await execa(
        program,
        [...options, ...tolerated, "--", process.execPath, server, descriptors, fastPath],
        { cwd: dirname(server), reject: false, timeout: suiteMs },
      );
      const output = `${stdout}\n${stderr}`;
      expect({ exitCode, output }).toMatchObject({ exitCode: 0 });
      const [, passed = "0"] = /^(\d+) passed/m.exec(output) ?? [];
      expect(Number(passed)).toBeGreaterThan(1500);
      report(`${passed} passed, fast path ${fastPath}`);
    },
    suiteMs,
  );
});
