import { once } from "node:events";
import { createServer, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { ApiError } from "./errors.js";
import { fetchParts, isAllowed } from "./fetch-parts.js";

const png = Buffer.from("89504e470d0a1a0a", "hex");
let server: Server;
let port: number;

const routes: Readonly<Record<string, RequestListener>> = {
  "/a.png": (_, res) => res.setHeader("content-type", "image/png; x=y").end(png),
  "/page": (_, res) => res.setHeader("content-type", "text/html").end("<p>"),
  "/hop": (_, res) => res.writeHead(302, { location: "/a.png" }).end(),
  "/away": (_, res) => res.writeHead(302, { location: `http://localhost:${port}/a.png` }).end(),
  "/file": (_, res) => res.writeHead(302, { location: "file:///etc/passwd" }).end(),
  "/round": (_, res) => res.writeHead(302, { location: "/round" }).end(),
  "/gone": (_, res) => res.writeHead(410).end(),
  "/silent": () => {},
  "/endless": (_, res) => {
    res.setHeader("content-type", "image/png");
    const more = () => {
      if (!res.destroyed) res.write(Buffer.alloc(65_536), more);
    };
    more();
  },
};

beforeAll(async () => {
  server = createServer((req, res) => routes[req.url ?? ""]?.(req, res));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  port = (server.address() as AddressInfo).port;
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

function get(path: string, kind: "image" | "file" = "image", settings = {}) {
  const url = path.startsWith("http") ? path : `http://127.0.0.1:${port}${path}`;
  const fetching = { hosts: ["127.0.0.1"], maxBytes: 100_000, timeoutMs: 5_000, ...settings };
  return fetchParts([{ url, kind, name: "n", param: "p" }], fetching);
}

describe("fetchParts", () => {
  it.each([["/a.png"], ["/hop"]])("takes the image at %s", async (path) => {
    const value = { mediaType: "image/png", name: "n", data: png };
    expect(await get(path)).toEqual([{ part: { case: "image", value } }]);
  });

  it("takes any file, and leaves other parts as they are", async () => {
    const [file] = await get("/page", "file");
    expect(file?.part).toMatchObject({ case: "file", value: { mediaType: "text/html" } });
    const text = { part: { case: "text" as const, value: "t" } };
    expect(await fetchParts([text], undefined)).toEqual([text]);
  });

  it.each([
    ["/page", "instead of an image"],
    ["/away", "leads to http://localhost, from which nothing is fetched"],
    ["/file", "leads to file://"],
    ["/round", "redirected more than 3 times"],
    ["/gone", "HTTP status 410"],
    ["/endless", "has more than 100000 bytes"],
    ["http://127.0.0.1:1/", "cannot be fetched"],
    ["http://a:b@127.0.0.1/", "a user name or a password"],
    ["http://127.0.0.1.example.com/", "from which nothing is fetched"],
    ["http://[::1]/", "from which nothing is fetched"],
  ])("refuses %s", async (path, message) => {
    const error: ApiError = await get(path).then(
      () => expect.unreachable(),
      (reason) => reason,
    );
    expect(error.message).toContain(`p `);
    expect(error.message).toContain(message);
    expect(error.init).toMatchObject({ status: 400, param: "p" });
  });

  it("does not wait for ever, and fetches nothing unless it is configured", async () => {
    await expect(get("/silent", "image", { timeoutMs: 50 })).rejects.toThrow("cannot be fetched");
    const part = { url: `http://127.0.0.1:${port}/a.png`, kind: "image" as const, name: "", param: "p" };
    await expect(fetchParts([part], undefined)).rejects.toThrow("no others are fetched here");
  });
});

it.each([
  ["img.example.com", true],
  ["IMG.EXAMPLE.COM", true],
  ["cdn.example.org", true],
  ["a.b.example.org", true],
  ["example.org", false],
  ["badexample.org", false],
  ["example.com", false],
])("%s is allowed: %s", (hostname, allowed) => {
  expect(isAllowed(hostname, ["img.example.com", "*.example.org"])).toBe(allowed);
});
