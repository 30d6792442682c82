/**
 * What an agent is told of a conversation before the input of a turn, as it is
 * when the turn has the lane:
 *
 *     it has lost the conversation                  ─▶ all that is kept
 *     it remembers nothing by itself                ─▶ all that is kept or told by the caller
 *     no turn of the conversation has succeeded yet ─▶ all that was said where it comes from
 *     else                                          ─▶ what others said since its last answer
 */
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Notice_Kind, Notice_Recovered } from "../../gen/sessionbroker/v1/turn_pb.js";
import {
  allSaid,
  exchangesOf,
  type KeptHistory,
  mostHistoryBytes,
  type ToldMessage,
  unseenMessages,
} from "./history.js";
import type { Exchange } from "./provider.js";
import type { EventPayload, TurnLog } from "./turn-log.js";
import type { Grant, TurnStore } from "./turn-store.js";

export class Briefing {
  /**
   * @param told the caller's own history
   * @param remembers the agent keeps its conversations itself
   */
  constructor(
    private readonly store: Pick<TurnStore, "history" | "lastAnswer">,
    private readonly log: Pick<TurnLog, "add">,
    private readonly grant: Grant,
    private readonly told: readonly ToldMessage[],
    private readonly remembers: boolean,
  ) {}

  async beforeInput(): Promise<readonly Exchange[]> {
    const { told } = this;
    const { nativeStateBefore, session } = this.grant;
    if (nativeStateBefore === "lost") return this.afterLoss();
    if (!this.remembers) return this.#whole(allSaid(await this.#kept(), told));
    if (nativeStateBefore !== "bound") return [...this.#whole(await this.#kept()), ...exchangesOf(told)];
    if (told.length === 0) return [];
    return exchangesOf(unseenMessages(told, await this.store.lastAnswer(session.recordNo)));
  }

  /** Says so to the turn's readers. */
  async afterLoss(): Promise<readonly Exchange[]> {
    const kept = await this.#kept();
    this.log.add({
      case: "notice",
      value: {
        kind: Notice_Kind.NATIVE_SESSION_LOST,
        message: "the agent no longer knew the conversation",
        recovered: kept.exchanges.length > 0 ? Notice_Recovered.HISTORY : Notice_Recovered.NONE,
      },
    });
    return this.#whole(kept);
  }

  /** Says to the turn's readers if it is not all that was said. */
  #whole({ exchanges, truncated }: KeptHistory): readonly Exchange[] {
    if (truncated) {
      this.log.add({
        case: "notice",
        value: {
          kind: Notice_Kind.HISTORY_TRUNCATED,
          message: "the agent was given only the newest part of the conversation",
        },
      });
    }
    return exchanges;
  }

  #kept(): Promise<KeptHistory> {
    return this.store.history(this.grant.session.recordNo, mostHistoryBytes);
  }
}

/** @param takenAtMs when the backup was made */
export function restoredNotice(takenAtMs: number): EventPayload {
  return {
    case: "notice",
    value: {
      kind: Notice_Kind.STORE_RESTORED,
      message: "the broker's store was restored from a backup: the agent may remember more than the broker",
      time: timestampFromMs(takenAtMs),
    },
  };
}
