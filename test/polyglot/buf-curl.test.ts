/** buf curl, which learns the schema by reflection and is how the service is used from a shell. */
import { fileURLToPath } from "node:url";
import { execa } from "execa";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import type { TestBroker } from "../support/broker.js";
import {
  type Answer,
  type Call,
  checkReport,
  type Failure,
  fieldsOf,
  service,
  startBroker,
  takeJourney,
} from "./journey.js";

const buf = fileURLToPath(new URL("../../node_modules/.bin/buf", import.meta.url));
const proto = fileURLToPath(new URL("../../proto", import.meta.url));
const health = "grpc.health.v1.Health/Check";
const journeyMs = 120_000;
/** More than a slow machine takes for the schema. */
const compilingMs = 5_000;

/** Flags for a way to the broker. Reflection and gRPC use HTTP/2 even without being told. */
const ways = {
  "HTTP/2": () => ["--http2-prior-knowledge"],
  "no flag": () => [],
  "unix socket": () => ["--http2-prior-knowledge", "--unix-socket", broker.socket],
} as const;
type Way = keyof typeof ways;
const everyWay = Object.keys(ways) as Way[];

let broker: TestBroker;
beforeAll(async () => {
  broker = await startBroker();
});
afterAll(() => broker.close());

describe.each(["connect", "grpc", "grpcweb"])("buf curl with %s", (protocol) => {
  const flags = (way: Way) => ["--protocol", protocol, ...ways[way]()];

  it.each(everyWay)(
    "takes the journey (%s)",
    async (way) => {
      const name = `buf-${protocol}-${way}`;
      checkReport(await takeJourney(caller(flags(way)), broker.token, name), name);
    },
    journeyMs,
  );

  it.each(everyWay)("asks for the health without a token (%s)", async (way) => {
    const serving = { messages: [{ status: "SERVING" }], exitCode: 0 };
    expect(await call(health, {}, flags(way))).toMatchObject(serving);
    expect(await call(health, { service }, flags(way))).toMatchObject(serving);
    const unknown = await call(health, { service: "no.such.Service" }, flags(way));
    expect(unknown).toMatchObject({ failure: { code: "not_found" }, exitCode: 8 * 5 });
  });

  it("exits with 8 times the code", async () => {
    const key = { scope: "polyglot", externalId: `exit-${protocol}`, provider: "echo" };
    const exit = async (method: string, message: object, token = broker.token) =>
      (await call(`${service}/${method}`, message, ["--protocol", protocol], token)).exitCode;
    expect(await exit("Reserve", { key })).toBe(0);
    expect(await exit("Reserve", {})).toBe(8 * 3);
    expect(await exit("GetTurn", { turnId: "none" })).toBe(8 * 5);
    expect(await exit("Reserve", { key, sessionId: "another" })).toBe(8 * 9);
    expect(await exit("ResetSession", { key, expectedGeneration: 1 })).toBe(8 * 7);
    expect(await exit("Reserve", { key }, "wrong")).toBe(8 * 16);
  });
});

describe.each(["connect", "grpcweb"])("buf curl with %s over HTTP/1.1", (protocol) => {
  it(
    "takes the journey with a schema from files",
    async () => {
      const name = `buf-${protocol}-http1`;
      const flags = ["--protocol", protocol, "--schema", proto];
      checkReport(await takeJourney(caller(flags, compilingMs), broker.token, name), name);
      expect((await run([...flags, "--verbose", "--data", "{}"], health)).stderr).toContain(
        "HTTP/1.1 200 OK",
      );
    },
    journeyMs,
  );
});

describe("reflection", () => {
  const versions = ["grpc-v1", "grpc-v1alpha"];
  const cases = everyWay.flatMap((way) => versions.map((version) => [way, version] as const));

  it.each(cases)("lists services and methods (%s, %s)", async (way, version) => {
    const flags = [...ways[way](), "--reflect-protocol", version];
    expect((await run([...flags, "--list-services"])).stdout.split("\n")).toEqual([
      "grpc.health.v1.Health",
      "grpc.reflection.v1.ServerReflection",
      "grpc.reflection.v1alpha.ServerReflection",
      service,
    ]);
    const methods = (await run([...flags, "--list-methods"])).stdout.split("\n");
    expect(methods).toContain(health);
    expect(methods.filter((method) => method.startsWith(`${service}/`)).sort()).toEqual(
      SessionBroker.methods.map(({ name }) => `${service}/${name}`).sort(),
    );
  });

  it("knows no other service", async () => {
    const { exitCode, stderr } = await run([], "no.such.Service/Method");
    expect(exitCode).not.toBe(0);
    expect(stderr).toContain("no.such.Service");
  });

  it("refuses a field that is not in the schema before anything is sent", async () => {
    const { exitCode, stderr } = await run(["--data", '{"kee":{}}'], `${service}/Reserve`);
    expect(exitCode).toBeLessThan(8);
    expect(stderr).toContain("kee");
  });

  it("lets a violation be read", async () => {
    const { failure } = await call(`${service}/Reserve`, {}, [], broker.token);
    expect(failure && fieldsOf(failure)).toEqual(["key"]);
  });
});

interface Outcome extends Answer {
  readonly exitCode: number | undefined;
}

/** @param compilingMs added to deadlines, which buf counts from before it compiles a schema from files */
function caller(flags: readonly string[], compilingMs = 0): Call {
  return (method, request, { token, timeoutMs }) => {
    const timeout = timeoutMs === undefined ? [] : ["--timeout", `${timeoutMs + compilingMs}ms`];
    return call(`${service}/${method}`, request, [...flags, ...timeout], token);
  };
}

/** Calls a method; the token and the request go in by stdin. */
async function call(
  path: string,
  request: object,
  flags: readonly string[],
  token?: string,
): Promise<Outcome> {
  const body = JSON.stringify(request);
  const { stdout, stderr, exitCode } =
    token === undefined
      ? await run([...flags, "--data", "@-"], path, body)
      : await run(
          [...flags, "--header", "@-", "--data", "@-"],
          path,
          `authorization: Bearer ${token}\n\n${body}`,
        );
  return {
    // One after another, each over many lines of which only the first begins with a brace.
    messages: stdout === "" ? [] : stdout.split(/\n(?=\{)/).map((text) => JSON.parse(text)),
    ...(stderr === "" ? {} : { failure: failureFrom(stderr) }),
    exitCode,
  };
}

function run(args: readonly string[], path = "", input = "") {
  const base = args.includes("--unix-socket") ? "http://localhost" : broker.url;
  return execa(buf, ["curl", ...args, `${base}/${path}`], { input, reject: false });
}

function failureFrom(text: string): Failure {
  try {
    return { details: [], ...JSON.parse(text) };
  } catch {
    throw new Error(`buf curl said no JSON:\n${text}`);
  }
}
