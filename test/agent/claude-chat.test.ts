/**
 * Chats over the whole way from an OpenAI client to the agent and back. With
 * Claude Code itself they want SESSION_BROKER_TEST_CLAUDE, the path of the
 * executable; see scripts/install-agent.mjs.
 */
import { describe } from "vitest";
import { openFakeAgent, openRealAgent } from "./agents.js";
import { describeChats } from "./chat-suite.js";

const executable = process.env.SESSION_BROKER_TEST_CLAUDE ?? "";

const title =
  executable === "" ? "Claude Code (skipped: SESSION_BROKER_TEST_CLAUDE names no executable)" : "Claude Code";

describeChats("a chat with an agent that asks no model", openFakeAgent);

if (executable === "")
  console.warn("skipped: chats with Claude Code, as SESSION_BROKER_TEST_CLAUDE is not set");
describe.skipIf(executable === "")(title, () => describeChats("a chat", () => openRealAgent(executable)));
