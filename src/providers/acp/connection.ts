/** The protocol over the standard input and output of a process, one JSON record on each line. */
import type { AnyMessage, ClientContext, Stream } from "@agentclientprotocol/sdk";
import { asRecord, asString, type JsonRecord, parseRecord } from "../json.js";
import type { Child } from "../process.js";

export interface ConnectionEvents {
  /** `session/update`. Called in the order of the lines. */
  onUpdate(params: JsonRecord): void;
  /** `session/request_permission`. Resolves with the outcome. */
  onPermission(params: JsonRecord, withdrawn: AbortSignal): Promise<JsonRecord>;
  /** The prompt was answered; what follows belongs to no prompt. */
  onPromptAnswered(): void;
  /** An answer to nothing that was asked. */
  onStray(): void;
  /** Resolves when the next line may be read. */
  room(): Promise<void>;
  /** Its output has ended. The error: it was ended for what it said, or did not say. */
  onEnd(error?: unknown): void;
}

/**
 * Requests, their answers and the agent's own requests are the library's.
 * Updates bypass it: it drops those that it does not know and writes about them
 * to the broker's standard error. Lines that are no records of the protocol are
 * passed over; some agents write notes to their standard output.
 *
 * @param isAnswerOurs as of `Child.lines`
 */
export async function connect(
  child: Child,
  isAnswerOurs: () => boolean,
  events: ConnectionEvents,
): Promise<ClientContext> {
  // Takes a tenth of a second to load, which only these agents are to cost.
  const { client, methods, RequestError } = await import("@agentclientprotocol/sdk");
  const outstanding = new Map<unknown, string>();
  const lines = child.lines(isAnswerOurs)[Symbol.asyncIterator]();

  /** The next message for the library; undefined at the end. */
  const nextMessage = async (): Promise<AnyMessage | undefined> => {
    for (;;) {
      await events.room();
      const next = await lines.next();
      if (next.done === true) return undefined;
      const record = parseRecord(next.value);
      if (record?.jsonrpc !== "2.0") continue;
      const method = asString(record.method);
      if (method === methods.client.session.update) events.onUpdate(asRecord(record.params) ?? {});
      else if (method !== undefined && record.id !== undefined) return record as AnyMessage;
      else if (method === methods.protocol.cancelRequest) return record as AnyMessage;
      else if (method === undefined) {
        const asked = outstanding.get(record.id);
        if (!outstanding.delete(record.id)) events.onStray();
        else {
          if (asked === methods.agent.session.prompt) events.onPromptAnswered();
          return record as AnyMessage;
        }
      }
    }
  };

  const stream: Stream = {
    readable: new ReadableStream<AnyMessage>(
      {
        async pull(controller) {
          try {
            const message = await nextMessage();
            if (message !== undefined) return controller.enqueue(message);
            events.onEnd();
            controller.close();
          } catch (error) {
            events.onEnd(error);
            controller.error(error);
          }
        },
        // The agent takes no input any more, so that the library has given up.
        cancel: (reason) => events.onEnd(reason),
      },
      { highWaterMark: 0 },
    ),
    writable: new WritableStream<AnyMessage>({
      async write(message) {
        if ("method" in message && "id" in message) outstanding.set(message.id, message.method);
        if (!(await child.write(`${JSON.stringify(message)}\n`))) throw new Error("the agent takes no input");
      },
    }),
  };
  return client()
    .onRequest("*", async ({ method, params, signal }) => {
      if (method !== methods.client.session.requestPermission) throw RequestError.methodNotFound(method);
      return await events.onPermission(asRecord(params) ?? {}, signal);
    })
    .connect(stream).agent;
}
