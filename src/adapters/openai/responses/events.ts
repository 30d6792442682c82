/**
 * The events of a response, from those of its turn. Numbers depend on the
 * turn's own sequence alone, so a reader may go on with any adapter:
 *
 *     accepted ─▶ created, in_progress (background: created, queued; started ─▶ in_progress)
 *     text ─▶ [close reasoning] [open message] delta
 *     reasoning ─▶ [close message] [open reasoning] delta
 *     ending ─▶ [close] completed | incomplete | failed
 */
import type { Response, ResponseOutputItem, ResponseStreamEvent } from "openai/resources/responses/responses";
import type { TurnEvent } from "../../../../gen/sessionbroker/v1/turn_pb.js";
import { type ItemKind, itemDelta, itemEnd, itemOf, itemStart, type OpenItem } from "./items.js";
import {
  endedResponse,
  incompleteReason,
  isBackground,
  type ResponseBody,
  type ResponseHead,
  runningResponse,
} from "./resource.js";

type WithBody<Event> = Event extends { response: Response }
  ? Omit<Event, "response"> & { response: ResponseBody }
  : Event;

/** As it is sent. */
export type ResponseEvent = WithBody<ResponseStreamEvent>;

/** An event without its number. */
export type Unnumbered<Event = ResponseEvent> = Event extends unknown
  ? Omit<Event, "sequence_number">
  : never;

export interface NumberedEvent {
  readonly event: ResponseEvent;
  /** Less than its `sequence_number` if it is several deltas that were merged: that of the first. */
  readonly first: number;
}

/**
 * What was seen of a turn and was lost in a crash may have begun and ended
 * items, too; numbers after it lie beyond all that may have been given out.
 */
const lostItemEvents = 16;

export class ResponseEvents {
  /** Absent until the turn is accepted, or its ending is known. */
  response: ResponseBody | undefined;
  #next = 0;
  #lastSequence = 0;
  #textLength = 0;
  #open: OpenItem | undefined;
  readonly #output: ResponseOutputItem[] = [];

  constructor(private readonly head: ResponseHead) {}

  get ended(): boolean {
    const status = this.response?.status;
    return status !== undefined && status !== "queued" && status !== "in_progress";
  }

  get nextNumber(): number {
    return this.#next;
  }

  /** What a turn's event is to the client. Events that are not kept are nothing. */
  apply(event: TurnEvent): NumberedEvent[] {
    const { sequence, firstSequence } = event;
    if (sequence === 0) return [];
    const lost = (firstSequence || sequence) - this.#lastSequence - 1;
    if (lost > 0) this.#next += lost + lostItemEvents;
    this.#lastSequence = sequence;
    const merged = firstSequence === 0 ? 1 : sequence - firstSequence + 1;
    const { event: payload } = event;
    switch (payload.case) {
      case "accepted":
        return this.#accepted();
      case "started":
        return this.response?.status === "queued" ? [this.#progress("response.in_progress")] : [];
      case "textDelta":
        return this.#delta("message", payload.value.text, merged);
      case "reasoningDelta":
        return this.#delta("reasoning", payload.value.text, merged);
      case "completed": {
        // A turn whose events are no longer kept has its answer in the ending alone.
        const rest = payload.value.text.slice(this.#textLength);
        const whole = incompleteReason(payload.value.finishReason) === undefined;
        return [
          ...(rest === "" ? [] : this.#delta("message", rest, 1)),
          // An empty answer is a message, too.
          ...(payload.value.text === "" ? this.#begin("message") : []),
          ...this.#close(whole ? "completed" : "incomplete"),
          this.#end(event, whole ? "response.completed" : "response.incomplete"),
        ];
      }
      case "failed":
      case "cancelled":
      case "interrupted":
        return [...this.#close("incomplete"), this.#end(event, "response.failed")];
      default:
        return [];
    }
  }

  #accepted(): NumberedEvent[] {
    this.response = runningResponse(this.head, {
      status: isBackground(this.head) ? "queued" : "in_progress",
      output: [],
    });
    const second = isBackground(this.head) ? "response.queued" : "response.in_progress";
    const created = this.#number({ type: "response.created", response: this.response });
    return [created, this.#progress(second)];
  }

  #progress(type: "response.queued" | "response.in_progress"): NumberedEvent {
    const status = type === "response.queued" ? "queued" : "in_progress";
    this.response = runningResponse(this.head, { status, output: this.#output });
    return this.#number({ type, response: this.response });
  }

  #delta(kind: ItemKind, text: string, merged: number): NumberedEvent[] {
    const begun = this.#begin(kind);
    if (this.#open === undefined) return begun;
    this.#open.text += text;
    if (kind === "message") this.#textLength += text.length;
    return [...begun, this.#number(itemDelta(this.#open, text), merged)];
  }

  #begin(kind: ItemKind): NumberedEvent[] {
    if (this.#open?.kind === kind) return [];
    const closed = this.#close("completed");
    this.#open = { kind, turnId: this.head.turnId, index: this.#output.length, text: "" };
    return [...closed, ...itemStart(this.#open).map((event) => this.#number(event))];
  }

  #close(status: "completed" | "incomplete"): NumberedEvent[] {
    if (this.#open === undefined) return [];
    const open = this.#open;
    this.#open = undefined;
    this.#output.push(itemOf(open, status));
    return itemEnd(open, status).map((event) => this.#number(event));
  }

  #end(
    event: TurnEvent,
    type: "response.completed" | "response.incomplete" | "response.failed",
  ): NumberedEvent {
    this.response = endedResponse(this.head, this.#output, event);
    return this.#number({ type, response: this.response });
  }

  #number(event: Unnumbered, merged = 1): NumberedEvent {
    const first = this.#next;
    this.#next += merged;
    // Spreading a union loses which member it is.
    return { first, event: { ...event, sequence_number: this.#next - 1 } as ResponseEvent };
  }
}
