import { request } from "node:http";
import { Counter, Registry } from "prom-client";
import { afterAll, beforeAll, expect, it } from "vitest";
import { listenForMetrics, type MetricsListening } from "./listen.js";

const anyPort = { host: "127.0.0.1", port: 0 };
const errors: unknown[] = [];
const registry = new Registry();

let listening: MetricsListening;

beforeAll(async () => {
  new Counter({ name: "made_total", help: "of a test", registers: [registry] }).inc(3);
  listening = await open();
});

afterAll(() => listening.close());

function open(listen = anyPort, shown = registry): Promise<MetricsListening> {
  const onError = (error: unknown) => errors.push(error);
  return listenForMetrics({ listen, hosts: () => ["broker.lan"], registry: shown, onError });
}

/** Status and text; fetch would not let the test choose the Host. */
function ask(path: string, method = "GET", headers = {}, { port } = listening.address) {
  return new Promise<[status: number | undefined, text: string]>((resolve, reject) => {
    const sent = request({ host: "127.0.0.1", port, path, method, headers, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk) => {
        text += chunk;
      });
      response.on("end", () => resolve([response.statusCode, text]));
    });
    sent.on("error", reject).end();
  });
}

it("shows the metrics of the registry and of the process", async () => {
  const [status, text] = await ask("/metrics?ignored=1");
  expect(status).toBe(200);
  expect(text).toContain("\nmade_total 3\n");
  expect(text).toContain("\nprocess_cpu_seconds_total ");
});

it.each([
  ["/", "GET", {}, 404],
  ["/metrics/", "GET", {}, 404],
  ["/metrics", "HEAD", {}, 200],
  ["/metrics", "POST", {}, 405],
  ["/metrics", "GET", { host: "broker.lan:7412" }, 200],
  ["/metrics", "GET", { host: "rebound.example" }, 403],
  ["/metrics", "GET", { origin: "https://page.example" }, 403],
])("%s by %s with %j: %i", async (path, method, headers, status) => {
  const [got, text] = await ask(path, method, headers);
  expect(got).toBe(status);
  expect(text).toEqual(
    got === 200 && method === "GET"
      ? expect.stringContaining("made_total")
      : expect.not.stringContaining("made_total"),
  );
});

it("says which address is taken", async () => {
  const { address } = listening;
  await expect(open(address)).rejects.toThrow(
    `cannot listen on 127.0.0.1:${address.port} (metrics_listen): another process listens there`,
  );
});

it("a metric that cannot be read is an error of that answer alone", async () => {
  const broken = new Registry();
  const failing = () => {
    throw new Error("unreadable");
  };
  new Counter({ name: "broken_total", help: "of a test", registers: [broken], collect: failing });
  const other = await open(anyPort, broken);
  expect(await ask("/metrics", "GET", {}, other.address)).toEqual([500, ""]);
  expect(await ask("/", "GET", {}, other.address)).toEqual([404, expect.any(String)]);
  expect(errors).toEqual([new Error("unreadable")]);
  await other.close();
  await expect(ask("/metrics", "GET", {}, other.address)).rejects.toThrow("ECONNREFUSED");
});
