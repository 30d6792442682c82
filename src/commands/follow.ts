/** `session-broker turns follow`: a turn as it happens. */
import { Notice_Kind, type TurnEvent, TurnEventSchema } from "../../gen/sessionbroker/v1/turn_pb.js";
import { brokerClient, explainCall } from "./broker-client.js";
import { CommandError } from "./command-error.js";
import { jsonLine, writeLines, writeText } from "./output.js";
import { printable, printableText } from "./printable.js";
import { enumText } from "./table.js";
import { endingText, type TurnOptions } from "./turns.js";

export interface FollowOptions extends TurnOptions {
  readonly afterSequence: number;
}

/** The exit code: 0 if the turn completed. The text goes to standard output, everything else beside it. */
export async function followTurn(options: FollowOptions): Promise<number> {
  const { access, turnId, scope, afterSequence, json } = options;
  let ended: TurnEvent | undefined;
  let inText = false;
  try {
    for await (const { event } of brokerClient(access).attach({ turnId, scope, afterSequence })) {
      if (event === undefined) continue;
      if (endingText(event) !== "") ended = event;
      if (json) await writeLines([jsonLine(TurnEventSchema, event)]);
      else if (event.event.case === "textDelta") {
        await writeText(printableText(event.event.value.text));
        inText = true;
      } else {
        const line = lineOf(event);
        if (line === "") continue;
        // So that what is said beside the text does not go on in its line.
        if (inText) await writeText("\n");
        inText = false;
        await writeText(`${printable(line)}\n`, process.stderr);
      }
    }
  } catch (error) {
    throw explainCall(error, access);
  }
  if (ended === undefined) throw new CommandError(`the broker stopped telling of ${turnId} before its end`);
  return ended.event.case === "completed" ? 0 : 1;
}

function lineOf(turnEvent: TurnEvent): string {
  const { event } = turnEvent;
  switch (event.case) {
    case "accepted":
      return `accepted: session ${event.value.session?.sessionId}`;
    case "queued":
      return `waits: ${event.value.position} before it`;
    case "started":
      return `started${event.value.resumed ? ", going on with the agent's conversation" : ""}`;
    case "toolCall":
      return `tool: ${event.value.name}`;
    case "notice":
      return `notice (${enumText(Notice_Kind, event.value.kind)}): ${event.value.message}`;
    case "permissionRequest":
      return `asks whether it may use ${event.value.tool} (${event.value.permissionId})`;
    case "permissionDecision":
      return `may ${event.value.allowed ? "" : "not "}(${event.value.permissionId})`;
    default:
      return endingText(turnEvent);
  }
}
