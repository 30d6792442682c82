/** What a turn has answered, from the contract's message of its ending. */
import type { TurnEvent } from "../gen/sessionbroker/v1/turn_pb.js";

/** What was delivered of it, if it broke off; empty if it has not ended, or nobody knows. */
export function answerOf(ending: TurnEvent | undefined): string {
  switch (ending?.event.case) {
    case "completed":
      return ending.event.value.text;
    case "failed":
    case "cancelled":
      return ending.event.value.partialText;
    default:
      return "";
  }
}
