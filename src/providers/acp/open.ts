/**
 * Taking up a conversation in a process that has begun.
 *
 *     fresh       ──────────────────────────────▶ session/new
 *     provisional ──resume | load──unknown──────▶ session/new
 *     bound       ──resume | load──unknown──────▶ lost
 */
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderTurn } from "../../turns/provider.js";
import { asRecord, asString, type JsonRecord } from "../json.js";
import type { AcpAgent } from "./agent.js";
import { agentErrorOf, isSessionLost } from "./failures.js";
import { FailureError } from "./outcome.js";

const protocolVersion = 1;

/** What of the broker the agent may use: nothing. */
const clientCapabilities = { fs: { readTextFile: false, writeTextFile: false }, terminal: false };

/**
 * The first request. Resolves with what the agent calls itself. Rejects if it
 * speaks another version of the protocol.
 */
export async function initialize(agent: AcpAgent): Promise<JsonRecord> {
  const clientInfo = { name: "session-broker", version: "0" };
  const result = await agent.call("initialize", { protocolVersion, clientCapabilities, clientInfo });
  if (result.protocolVersion !== protocolVersion) {
    throw failure(
      TurnErrorCode.UNAVAILABLE,
      `The agent speaks version ${JSON.stringify(result.protocolVersion)} of the Agent Client Protocol, not ${protocolVersion}.`,
    );
  }
  agent.capabilities = asRecord(result.agentCapabilities) ?? {};
  return asRecord(result.agentInfo) ?? {};
}

/** Resolves with whether it goes on with the conversation of the turn. */
export async function openConversation(agent: AcpAgent, turn: ProviderTurn): Promise<boolean> {
  const { nativeId, state } = turn.binding;
  if (nativeId !== undefined && state !== "fresh" && (await continueIn(agent, nativeId, turn.workspace))) {
    agent.sessionId = nativeId;
    return true;
  }
  if (state === "bound") {
    throw failure(
      TurnErrorCode.NATIVE_SESSION_LOST,
      `The agent does not know the conversation ${nativeId}.`,
      true,
    );
  }
  const opened = await agent.call("session/new", { cwd: turn.workspace, mcpServers: [] });
  const sessionId = asString(opened.sessionId);
  if (sessionId === undefined || sessionId === "") {
    throw failure(TurnErrorCode.PROVIDER_ERROR, "The agent gave the new conversation no id.");
  }
  agent.opened = opened;
  agent.sessionId = sessionId;
  return false;
}

/** False: the agent does not know the conversation, or can take up none. */
async function continueIn(agent: AcpAgent, sessionId: string, workspace: string): Promise<boolean> {
  const sessions = asRecord(agent.capabilities.sessionCapabilities) ?? {};
  const params: JsonRecord = { sessionId, cwd: workspace, mcpServers: [] };
  try {
    if (asRecord(sessions.resume) !== undefined) {
      agent.opened = await agent.call("session/resume", params);
      return true;
    }
    if (agent.capabilities.loadSession !== true) return false;
    agent.opened = await agent.call("session/load", params);
    await agent.replayed();
    return true;
  } catch (error) {
    const agentError = agentErrorOf(error);
    if (agentError === undefined || !isSessionLost(agentError)) throw error;
    return false;
  }
}

function failure(code: TurnErrorCode, message: string, retryable = false): FailureError {
  return new FailureError({ code, message, retryable, modelNotAsked: true });
}
