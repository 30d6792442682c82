import type { ServerResponse } from "node:http";

export function sendJson(
  res: ServerResponse,
  status: number,
  value: unknown,
  headers: Readonly<Record<string, string>> = {},
): void {
  // With a string, Node.js would send the headers, too, as UTF-8, and each of their bytes above 0x7f as two.
  const body = Buffer.from(JSON.stringify(value));
  res.writeHead(status, {
    ...headers,
    "content-type": "application/json",
    "content-length": body.length,
  });
  res.end(body);
}
