import { expect, it } from "vitest";
import { estimateTokens } from "./estimate.js";
import { toMessageRequest } from "./request.js";

const image = { type: "image", source: { type: "base64", media_type: "image/png", data: "iVBORw==" } };

it.each([
  [[{ role: "user", content: "12345678" }], "", 2],
  [[{ role: "user", content: "12345678" }], "1234", 3],
  [
    [
      { role: "user", content: "ü" },
      { role: "assistant", content: "1234" },
      { role: "user", content: "1" },
    ],
    "",
    3,
  ],
  [[{ role: "user", content: [image, { type: "text", text: "1234" }] }], "", 1601],
])("%j with the system prompt %j has about %i tokens", (messages, system, tokens) => {
  expect(estimateTokens(toMessageRequest({ model: "m", messages, system }).conversation)).toBe(tokens);
});
