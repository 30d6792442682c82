/** Beginning a conversation in an app server, and going on with one. */
import type { ProviderTurn } from "../../turns/provider.js";
import type { Failure } from "../ending.js";
import { asRecord, asString, type JsonRecord } from "../json.js";
import { type AppServer, RequestError } from "./app-server.js";
import { classifyRequestError, isLoss } from "./failures.js";
import { isNativeId, otherConversation } from "./outcome.js";
import { Thread } from "./thread.js";
import { totalOf } from "./usage.js";

/** The conversation cannot be begun, or gone on with; the process has not loaded it. */
export class OpenError extends Error {
  override readonly name = "OpenError";

  constructor(readonly failure: Failure) {
    super(failure.message);
  }
}

/**
 * The conversation of the turn. Throws OpenError and ServerGoneError.
 *
 * @param onUnsolicited called if the agent begins a turn in it that nobody has asked for
 */
export async function openThread(
  server: AppServer,
  turn: ProviderTurn,
  model: string | undefined,
  onUnsolicited: () => void,
): Promise<Thread> {
  const { nativeId, state } = turn.binding;
  const listen = (result: JsonRecord): Thread | undefined => {
    const id = asString(asRecord(result.thread)?.id);
    if (id === undefined) return undefined;
    const thread = new Thread(id, server, asString(result.model), onUnsolicited);
    server.listen(id, thread);
    return thread;
  };
  const { approvalPolicy, sandbox } = server.sandbox;
  const settings = { cwd: turn.workspace, approvalPolicy, sandbox };

  if (nativeId !== undefined && state !== "fresh" && isNativeId(nativeId)) {
    const params = { threadId: nativeId, excludeTurns: true, ...settings };
    const resumed = await ask(server, "thread/resume", params, listen).catch((error: unknown) => {
      // The agent writes a conversation down with its first turn, and an earlier one may not have come so far.
      if (state === "provisional" && error instanceof OpenError && isLoss(error.failure)) return undefined;
      throw error;
    });
    if (resumed !== undefined) {
      if (resumed.id !== nativeId) throw new OpenError(otherConversation(nativeId));
      return resumed;
    }
  }
  const params = {
    ...settings,
    ...(model === undefined ? {} : { model }),
    ...(turn.system === undefined || turn.system === "" ? {} : { developerInstructions: turn.system }),
  };
  const begun = await ask(server, "thread/start", params, listen);
  begun.total = totalOf({});
  begun.isEmpty = true;
  return begun;
}

async function ask(
  server: AppServer,
  method: string,
  params: JsonRecord,
  listen: (result: JsonRecord) => Thread | undefined,
): Promise<Thread> {
  let thread: Thread | undefined;
  try {
    // What follows the answer is about the conversation already.
    await server.call(method, params, (result) => {
      thread = listen(result);
    });
  } catch (error) {
    if (error instanceof RequestError) throw new OpenError(classifyRequestError(error.message));
    throw error;
  }
  if (thread === undefined) throw new OpenError(classifyRequestError("The agent named no conversation."));
  return thread;
}
