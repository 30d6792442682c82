// node:http alone: reads a body of JSON and answers with one. Prints its port.
import { createServer } from "node:http";

const answer = JSON.stringify({ status: "SERVING" });
const headers = { "content-type": "application/json", "content-length": Buffer.byteLength(answer) };
const server = createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    JSON.parse(Buffer.concat(chunks).toString());
    response.writeHead(200, headers);
    response.end(answer);
  });
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
console.log(JSON.stringify({ http: server.address().port }));
