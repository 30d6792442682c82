/** TLS on the broker's port: who is let in, as whom, and what a certificate that changes does. */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get as getHttp } from "node:http";
import { type ClientHttp2Session, connect as connectH2 } from "node:http2";
import { get as getHttps } from "node:https";
import { type AddressInfo, connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { connect as connectTls } from "node:tls";
import { fileURLToPath } from "node:url";
import { Code, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
import { Client, credentials as grpcCredentials, Metadata } from "@grpc/grpc-js";
import { execa } from "execa";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { stringify } from "yaml";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { type Listening, listen } from "../../src/server/one-port.js";
import { failureOf, reasonOf } from "../support/answers.js";
import { freePort, TestBroker } from "../support/broker.js";
import { type Certificate, TestAuthority } from "../support/certificates.js";
import { runCommand, startCommand } from "../support/command.js";

const folder = mkdtempSync(join(tmpdir(), "tls-"));
const buf = fileURLToPath(new URL("../../node_modules/.bin/buf", import.meta.url));

let ca: TestAuthority;
let server: Certificate;
let gateway: Certificate;
let reader: Certificate;
let stranger: Certificate;

beforeAll(async () => {
  ca = await TestAuthority.make(join(folder, "ours"));
  server = await ca.issue({ subject: "/CN=broker", names: "DNS:localhost,DNS:*.broker.test,IP:127.0.0.1" });
  gateway = await ca.issue({ subject: "/O=Acme, Inc./CN=gateway" });
  reader = await ca.issue({ subject: "/CN=reader" });
  const others = await TestAuthority.make(join(folder, "others"), "Other CA");
  stranger = await others.issue({ subject: "/O=Acme, Inc./CN=gateway" });
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");
const bySubject = (certificateSubject: string, role = "ROLE_ADMIN", scopes = ["*"]) => ({
  name: certificateSubject.replace(/\W/g, "-"),
  certificateSubject,
  role,
  scopes,
});
const gatewaySubject = "CN=gateway,O=Acme\\, Inc.";
const settings = (more: object = {}) => ({
  tls: {
    certificate: server.certificate,
    key: server.key,
    clientCa: ca.root.certificate,
    ...more,
  },
  credentials: [
    bySubject(gatewaySubject),
    bySubject("CN=reader", "ROLE_READ", ["acme/*"]),
    {
      name: "bound",
      tokenSha256: sha256("bound-token"),
      certificateSubject: "CN=reader",
      role: "ROLE_ADMIN",
    },
  ],
});

async function startBroker(config: object): Promise<TestBroker> {
  const broker = await TestBroker.start({ config: stringify(config) });
  cleanups.push(() => broker.close());
  return broker;
}

interface Shown {
  readonly certificate?: Certificate;
  readonly token?: string;
  readonly protocol?: "connect" | "connect-h2" | "grpc";
}

/** A client that believes our authority alone. */
function clientOf(broker: TestBroker, { certificate, token, protocol = "connect-h2" }: Shown = {}) {
  const nodeOptions = { ca: ca.root.pem.cert, ...certificate?.pem };
  const baseUrl = `https://localhost:${broker.port}`;
  const options = {
    baseUrl,
    interceptors: [
      (next: (request: { header: Headers }) => unknown) => (request: { header: Headers }) => {
        if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
        return next(request);
      },
    ] as never,
  };
  if (protocol === "connect") {
    return createClient(
      SessionBroker,
      createConnectTransport({ ...options, httpVersion: "1.1", nodeOptions }),
    );
  }
  const sessionManager = new Http2SessionManager(baseUrl, {}, nodeOptions);
  cleanups.push(() => sessionManager.abort());
  return createClient(
    SessionBroker,
    protocol === "grpc"
      ? createGrpcTransport({ ...options, sessionManager })
      : createConnectTransport({ ...options, httpVersion: "2", sessionManager }),
  );
}

const key = (scope = "acme/a") => ({ scope, externalId: "chat", provider: "echo" });

describe("a broker with TLS", () => {
  let broker: TestBroker;
  beforeAll(async () => {
    broker = await TestBroker.start({ config: stringify(settings()) });
  });
  afterAll(() => broker.close());

  it.each(["connect", "connect-h2", "grpc"] as const)(
    "knows callers by certificate or token (%s)",
    async (protocol) => {
      const reasons = async (shown: Shown) => {
        const client = clientOf(broker, { ...shown, protocol });
        return [
          await reasonOf(client.resolveSelection({ selector: { case: "key", value: key() } })),
          await reasonOf(client.reserve({ key: key() })),
          await reasonOf(client.prune({ maxSessions: 1000 })),
        ];
      };
      const unknown = Array(3).fill("Unauthenticated UNAUTHENTICATED");
      expect(await reasons({ certificate: gateway })).toEqual(["none", "none", "none"]);
      const readOnly = ["none", "PermissionDenied ROLE_TOO_LOW", "PermissionDenied ROLE_TOO_LOW"];
      expect(await reasons({ certificate: reader })).toEqual(readOnly);
      expect(await reasons({ token: broker.adminToken })).toEqual(["none", "none", "none"]);
      expect(await reasons({})).toEqual(unknown);
      // One whose certificate we did not sign may say what it wants.
      expect(await reasons({ certificate: stranger })).toEqual(unknown);
      // A token that is shown decides: one that is wrong is not made good by a certificate.
      expect(await reasons({ certificate: gateway, token: "wrong" })).toEqual(unknown);
      expect(await reasons({ certificate: reader, token: broker.adminToken })).toEqual([
        "none",
        "none",
        "none",
      ]);
    },
  );

  it("lets a token that is bound to a certificate count with that one alone", async () => {
    const prune = (shown: Shown) => reasonOf(clientOf(broker, shown).prune({ maxSessions: 1000 }));
    expect(await prune({ token: "bound-token", certificate: reader })).toBe("none");
    expect(await prune({ token: "bound-token", certificate: gateway })).toBe(
      "Unauthenticated UNAUTHENTICATED",
    );
    expect(await prune({ token: "bound-token" })).toBe("Unauthenticated UNAUTHENTICATED");
  });

  it("keeps a caller with a certificate to its scopes", async () => {
    const { resolveSelection } = clientOf(broker, { certificate: reader });
    const foreign = { selector: { case: "key" as const, value: key("other") } };
    expect(await reasonOf(resolveSelection(foreign))).toBe("PermissionDenied FOREIGN_SCOPE");
  });

  it("streams turns to a client of grpc-js", async () => {
    const { cert, key: privateKey } = gateway.pem;
    const secure = grpcCredentials.createSsl(
      Buffer.from(ca.root.pem.cert),
      Buffer.from(privateKey),
      Buffer.from(cert),
    );
    const client = new Client(`localhost:${broker.port}`, secure);
    cleanups.push(() => client.close());
    const path = "/grpc.health.v1.Health/Check";
    const same = (bytes: Buffer) => bytes;
    const answer = new Promise((resolve, reject) =>
      client.makeUnaryRequest(path, same, same, Buffer.alloc(0), new Metadata(), (error, message) =>
        error === null ? resolve(message) : reject(error),
      ),
    );
    // Status 1: SERVING.
    expect(await answer).toEqual(Buffer.from([8, 1]));
    const events = [];
    const input = [{ part: { case: "text" as const, value: "hello" } }];
    const target = { case: "key" as const, value: key("acme/turns") };
    const { dispatch } = clientOf(broker, { certificate: gateway, protocol: "grpc" });
    for await (const { event } of dispatch({ target, input })) events.push(event?.event.case);
    expect(events.at(-1)).toBe("completed");
  });

  it.each(["connect", "grpc", "grpcweb"])("answers buf curl with %s", async (protocol) => {
    const url = `https://localhost:${broker.port}/sessionbroker.v1.SessionBroker/GetServerInfo`;
    const files = ["--cert", gateway.certificate, "--key", gateway.key, "--cacert", ca.root.certificate];
    const { stdout } = await execa(buf, ["curl", "--protocol", protocol, ...files, "-d", "{}", url]);
    expect(JSON.parse(stdout)).toHaveProperty("version");
  });

  it("negotiates HTTP/2 and HTTP/1.1, and nothing else", async () => {
    const negotiated = async (ALPNProtocols: string[]) => {
      const socket = connectTls({
        port: broker.port,
        host: "localhost",
        ca: ca.root.pem.cert,
        ALPNProtocols,
      });
      cleanups.push(() => socket.destroy());
      const failed = once(socket, "error").then(([error]) => error.code);
      return Promise.race([once(socket, "secureConnect").then(() => socket.alpnProtocol), failed]);
    };
    expect(await negotiated(["h2", "http/1.1"])).toBe("h2");
    expect(await negotiated(["http/1.1"])).toBe("http/1.1");
    expect(await negotiated(["spdy/3"])).toBe("ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL");
  });

  it("takes a handshake that comes byte by byte", async () => {
    const slow = createServer((near) => {
      const far = connect(broker.port, "127.0.0.1");
      cleanups.push(() => far.destroy());
      far.setNoDelay(true);
      far.pipe(near);
      let last = Promise.resolve();
      near.on("data", (chunk: Buffer) => {
        for (const byte of chunk.subarray(0, 64)) {
          last = last.then(
            () => new Promise((resolve) => far.write(Buffer.of(byte), () => setImmediate(resolve))),
          );
        }
        last = last.then(() => void far.write(chunk.subarray(64)));
      });
    }).listen(0, "127.0.0.1");
    await once(slow, "listening");
    cleanups.push(() => slow.close());
    const { port } = slow.address() as AddressInfo;
    const socket = connectTls({ port, host: "localhost", ca: ca.root.pem.cert, ALPNProtocols: ["http/1.1"] });
    cleanups.push(() => socket.destroy());
    await once(socket, "secureConnect");
    socket.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    const [answer] = await once(socket, "data");
    expect(String(answer)).toMatch(/^HTTP\/1\.1 404/);
  });

  it("is known by the names in its certificate", async () => {
    const status = async (host: string) => {
      const options = { port: broker.port, host: "127.0.0.1", ca: ca.root.pem.cert, agent: false };
      const request = getHttps({ ...options, headers: { host }, servername: "localhost", path: "/" });
      const [response] = await once(request, "response");
      response.resume();
      return response.statusCode;
    };
    expect(await status("a.broker.test")).toBe(404);
    expect(await status(`a.broker.test:${broker.port}`)).toBe(404);
    expect(await status("broker.test")).toBe(403);
    expect(await status("evil.example")).toBe(403);
  });

  it("tells a client that speaks cleartext what is wrong, over HTTP/1.1 and HTTP/2", async () => {
    const request = getHttp({ port: broker.port, host: "127.0.0.1", agent: false });
    const [response] = await once(request, "response");
    let body = "";
    for await (const chunk of response.setEncoding("utf8")) body += chunk;
    expect([response.statusCode, body]).toEqual([400, "This port speaks TLS: use https.\n"]);
    const session: ClientHttp2Session = connectH2(`http://127.0.0.1:${broker.port}`);
    cleanups.push(() => session.destroy());
    await once(session, "error");
    // The broker is as it was.
    expect(await reasonOf(clientOf(broker, { certificate: gateway }).getServerInfo({}))).toBe("none");
  });

  it("closes what is no handshake, and what breaks off in one", async () => {
    for (const bytes of ["", "\x16", "\x16\x03\x01\x02\x00\x01", `\x16${"x".repeat(2000)}`, "\x80\x2e\x01"]) {
      const socket = connect(broker.port, "127.0.0.1");
      socket.on("error", () => {});
      await once(socket, "connect");
      const closed = new Promise((resolve) => socket.once("close", resolve));
      socket.resume().end(Buffer.from(bytes, "latin1"));
      await closed;
    }
    expect(await reasonOf(clientOf(broker, { certificate: gateway }).getServerInfo({}))).toBe("none");
  });

  it("speaks cleartext on the unix socket still, where a certificate is no token", async () => {
    const { stdout, exitCode } = await runCommand(broker, ["sessions", "list", "--json"]);
    expect([exitCode, stdout.includes('"scope":"acme/turns"')]).toEqual([0, true]);
  });
});

describe("client certificates that are required", () => {
  it("keep out whoever has none, or one of another authority", async () => {
    const broker = await startBroker(settings({ clientCertificates: "CLIENT_CERTIFICATES_REQUIRED" }));
    const token = broker.adminToken;
    const info = (shown: Shown) => failureOf(clientOf(broker, shown).getServerInfo({}));
    expect(await info({ certificate: gateway })).toBeUndefined();
    // They are told by an alert of TLS, which no answer of the broker follows.
    const notAnswered = [Code.Unavailable, Code.Canceled, Code.Aborted, Code.Internal];
    expect(notAnswered).toContain((await info({ token }))?.code);
    expect(notAnswered).toContain((await info({ token, certificate: stranger }))?.code);
    expect(await info({ token, certificate: reader })).toBeUndefined();
  });
});

describe("a slow handshake", () => {
  let port: number;
  let listening: Listening;
  beforeEach(async () => {
    const tls = {
      certificate: server.pem.cert,
      key: server.pem.key,
      clientCertificates: "optional" as const,
      isNamed: () => false,
    };
    const handler = ((_req: unknown, res: { end(): void }) => res.end()) as never;
    const limits = { headersTimeoutMs: 300 };
    listening = await listen({ host: "127.0.0.1", port: 0, handler, tls, limits });
    port = listening.port;
    cleanups.push(() => listening.close(0));
  });

  it.each([
    ["says nothing", ""],
    ["says one byte", "\x16"],
    ["stops in the middle", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
  ])("is ended in time when the client %s", async (_, bytes) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write(Buffer.from(bytes, "latin1"));
    await new Promise((resolve) => socket.resume().once("close", resolve));
  });

  it("is ended in time when the client sends nothing after it", async () => {
    const socket = connectTls({ port, host: "localhost", ca: ca.root.pem.cert });
    await once(socket, "secureConnect");
    await new Promise((resolve) => socket.resume().once("close", resolve));
  });

  it("does not keep the server from stopping", async () => {
    const socket = connect(port, "127.0.0.1");
    socket.on("error", () => {});
    await once(socket, "connect");
    socket.write("\x16\x03\x01");
    const closed = new Promise((resolve) => socket.resume().once("close", resolve));
    await listening.close(60_000);
    await closed;
  });
});

describe("SIGHUP", () => {
  const reload = async (broker: TestBroker, config: object, until: string) => {
    const before = broker.output.join("").length;
    writeFileSync(join(broker.folder, "config.yaml"), stringify(config));
    process.kill(broker.pid, "SIGHUP");
    const said = () => broker.output.join("").slice(before);
    await expect.poll(said, { timeout: 15_000 }).toContain(until);
  };
  const again = "the configuration was read again";

  it("reads the certificate again, and connections stay", async () => {
    const [certificate, privateKey] = [join(folder, "now.pem"), join(folder, "now.key")];
    copyFileSync(server.certificate, certificate);
    copyFileSync(server.key, privateKey);
    const config = settings({ certificate, key: privateKey });
    const broker = await startBroker(config);
    const servedBy = async () => {
      const socket = connectTls({ port: broker.port, host: "localhost", ca: ca.root.pem.cert });
      await once(socket, "secureConnect");
      const { subject } = socket.getPeerCertificate();
      socket.destroy();
      return subject.CN;
    };
    const watch = clientOf(broker, { certificate: gateway }).watchSessions({})[Symbol.asyncIterator]();
    await watch.next();
    const change = watch.next();
    expect(await servedBy()).toBe("broker");

    const next = await ca.issue({ subject: "/CN=renewed", names: "DNS:localhost,DNS:renewed.test" });
    copyFileSync(next.certificate, certificate);
    await reload(broker, config, "stays as it was: tls.key: ");
    expect(await servedBy()).toBe("broker");

    copyFileSync(next.key, privateKey);
    await reload(broker, config, again);
    expect(await servedBy()).toBe("renewed");
    await clientOf(broker, { certificate: gateway }).reserve({ key: key() });
    expect((await change).value.session.key.externalId).toBe("chat");
  });

  it("takes a subject away: its streams end, and its lease is not renewed any more", async () => {
    const broker = await startBroker(settings());
    const holder = clientOf(broker, { certificate: gateway });
    const watched = reasonOf(holder.watchSessions({}));
    let granted: (fence: bigint) => void = () => {};
    const grant = new Promise<bigint>((resolve) => {
      granted = resolve;
    });
    const hold = async () => {
      for await (const { event } of holder.acquireLane({ key: key(), turnId: "lane" })) {
        if (event.case === "granted") granted(event.value.fence);
      }
    };
    const held = reasonOf(hold());
    const fence = await grant;
    const { credentials } = settings();
    await reload(broker, { ...settings(), credentials: credentials.slice(1) }, again);
    expect([await watched, await held]).toEqual(Array(2).fill("Unauthenticated UNAUTHENTICATED"));
    const renewed = await reasonOf(holder.renewLane({ turnId: "lane", fence }));
    expect(renewed).toBe("Unauthenticated UNAUTHENTICATED");
  });
});

describe("what cannot be used", () => {
  const broker = { data: join(folder, "data"), socket: join(folder, "b.sock"), folder };
  let expired: Certificate;
  beforeAll(async () => {
    expired = await ca.issue({ subject: "/CN=old", names: "DNS:localhost", days: -1 });
    writeFileSync(join(folder, "text.pem"), "no certificate\n");
    await execa("openssl", [
      ...["pkey", "-in", server.key, "-aes256", "-passout", "pass:secret"],
      ...["-out", join(folder, "locked.key")],
    ]);
  });

  it.each([
    [
      "a missing certificate",
      () => ({ certificate: "/nowhere/a.pem" }),
      /tls\.certificate: \/nowhere\/a\.pem cannot be read/,
    ],
    ["a missing key", () => ({ key: "/nowhere/a.key" }), /tls\.key: \/nowhere\/a\.key cannot be read/],
    ["a directory", () => ({ clientCa: folder }), /tls\.client_ca: .* cannot be read: EISDIR/],
    ["text", () => ({ certificate: join(folder, "text.pem") }), /holds no certificate in PEM/],
    ["the key of another", () => ({ key: gateway.key }), /tls\.key: .* is not the key of the certificate in/],
    ["a certificate as key", () => ({ key: server.certificate }), /tls\.key: .* holds no private key in PEM/],
    [
      "an encrypted key",
      () => ({ key: join(folder, "locked.key") }),
      /is encrypted; give a key that needs no/,
    ],
    [
      "an expired one",
      () => ({ certificate: expired.certificate, key: expired.key }),
      /tls\.certificate: .* has expired, on /,
    ],
  ])("%s ends the start with 2 and a line, and check too", async (_, more, message) => {
    writeFileSync(join(folder, "bad.yaml"), stringify(settings(more())));
    const answers = await Promise.all(
      ["serve", "check", "openai"].map((command) =>
        runCommand(broker, [command, "--config", "bad.yaml", "--metrics-listen", "off"]),
      ),
    );
    for (const { exitCode, stderr } of answers) {
      expect([exitCode, stderr.split("\n").length]).toEqual([2, 1]);
      expect(stderr).toMatch(message);
    }
  });

  it.each([
    [
      { credentials: [{ name: "a", role: "ROLE_READ" }] },
      "credentials[0]: token_sha256 or certificate_subject is needed",
    ],
    [
      { credentials: [bySubject("CN=a")] },
      "credentials[0].certificate_subject: certificates of clients need tls.client_ca",
    ],
    [{ tls: { certificate: "a" } }, "tls.key: value is required"],
    [
      { tls: { certificate: "a", key: "b", clientCertificates: "CLIENT_CERTIFICATES_REQUIRED" } },
      "tls.client_certificates: tls.client_ca is needed",
    ],
  ])("settings that do not fit together: %j", async (config, message) => {
    writeFileSync(join(folder, "bad.yaml"), stringify(config));
    const { exitCode, stderr } = await runCommand(broker, ["check", "--config", "bad.yaml"]);
    expect(exitCode).toBe(2);
    expect(stderr).toContain(message);
  });
});

/** A command that serves, once it says that it listens. */
async function startServing(
  words: readonly string[],
  config: object,
): Promise<{ readonly pid: number; said(): string; stop(): Promise<void> }> {
  const place = mkdtempSync(join(folder, "serving-"));
  writeFileSync(join(place, "config.yaml"), stringify(config));
  const where = { data: join(place, "data"), socket: join(place, "b.sock"), folder: place };
  const child = startCommand(where, [...words, "--config", "config.yaml", "--metrics-listen", "off"]);
  cleanups.push(async () => {
    child.kill("SIGKILL");
    await child;
  });
  let said = "";
  child.stderr?.on("data", (chunk) => {
    said += chunk;
  });
  child.stdout?.on("data", (chunk) => {
    said += chunk;
  });
  await vi.waitUntil(() => said.includes(" listens on "), 20_000);
  const stop = async () => {
    child.kill("SIGTERM");
    await child;
  };
  return { pid: child.pid ?? 0, said: () => said, stop };
}

describe("the adapter", () => {
  it("speaks TLS with the same certificate, and reads it again on SIGHUP", async () => {
    const broker = await startBroker(settings());
    const [certificate, privateKey] = [join(folder, "adapter.pem"), join(folder, "adapter.key")];
    copyFileSync(server.certificate, certificate);
    copyFileSync(server.key, privateKey);
    const port = await freePort();
    const words = ["openai", "--openai-listen", `127.0.0.1:${port}`, "--broker", `unix:${broker.socket}`];
    const { said, pid } = await startServing(words, settings({ certificate, key: privateKey }));
    expect(said()).toContain(`https://127.0.0.1:${port}`);
    const headers = { authorization: `Bearer ${broker.token}` };
    const request = getHttps(`https://localhost:${port}/v1/models`, { ca: ca.root.pem.cert, headers });
    const [response] = await once(request, "response");
    response.resume();
    expect(response.statusCode).toBe(200);
    const next = await ca.issue({ subject: "/CN=renewed", names: "DNS:localhost" });
    copyFileSync(next.certificate, certificate);
    process.kill(pid, "SIGHUP");
    await vi.waitUntil(() => said().includes("the certificate stays as it was: tls.key"), 10_000);
    copyFileSync(next.key, privateKey);
    process.kill(pid, "SIGHUP");
    await vi.waitUntil(() => said().includes("the certificate was read again"), 10_000);
    const socket = connectTls({ port, host: "localhost", ca: ca.root.pem.cert });
    await once(socket, "secureConnect");
    expect(socket.getPeerCertificate().subject.CN).toBe("renewed");
    socket.destroy();
  });
});

describe("cleartext beyond loopback", () => {
  it.each([
    ["0.0.0.0:0", {}, 1],
    ["127.0.0.1:0", {}, 0],
    ["0.0.0.0:0", settings, 0],
  ])("is warned about once: %s", async (listen, config, times) => {
    const { said, stop } = await startServing(
      ["serve", "--listen", listen],
      typeof config === "function" ? config() : config,
    );
    // What it says on one stream may be read before what it said earlier on the other.
    await stop();
    expect(said().split("without tls").length - 1).toBe(times);
  });
});
