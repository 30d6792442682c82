/** What the clients of a crash test were told, and what has to be true of it at the end. */
import { toBinary } from "@bufbuild/protobuf";
import { expect } from "vitest";
import {
  Cancelled_Reason,
  type OnConflict,
  type Turn,
  type TurnEvent,
  TurnEventSchema,
  TurnState,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import { Invariants, isTerminal } from "../simulation/invariants.js";
import { reasonOf } from "../support/answers.js";
import type { BrokerClient } from "../support/broker.js";
import type { AgentNotes, AgentRun } from "./agent-notes.js";

/** A turn that a client asked for. */
export interface AskedTurn {
  /** In the prompt, and in the agents' notes. */
  readonly token: string;
  readonly chat: string;
  readonly text: string;
  readonly onConflict: OnConflict;
  /** Goes on without readers. */
  readonly detached: boolean;
  /** Chosen by the client, or told by Accepted. */
  turnId: string;
  readonly chosen: boolean;
  accepted: boolean;
  refused: boolean;
  /** CancelTurn said that it will not run. */
  removed: boolean;
  /** The last sequence that any reader was shown. */
  lastSeen: number;
  /** The sequence of the ending, once a reader was shown it. */
  endedAt?: number;
}

export class Ledger {
  readonly asked: AskedTurn[] = [];
  readonly #invariants = new Invariants(() => "");
  /** Told of every event that a client is shown, and every call that it makes. */
  onMoment: (moment: string) => void = () => {};

  seen(turn: AskedTurn, event: TurnEvent, after: number): void {
    this.#invariants.seen(event, after);
    if (event.event.case === "accepted" && !turn.accepted) {
      turn.accepted = true;
      if (turn.turnId === "") turn.turnId = event.turnId;
    }
    turn.lastSeen = Math.max(turn.lastSeen, event.sequence);
    if (isTerminal(event)) turn.endedAt = event.sequence;
    this.onMoment(event.event.case ?? "");
  }

  get known(): AskedTurn[] {
    return this.asked.filter(({ accepted }) => accepted);
  }

  /** Waits until every turn has ended, and judges all that happened. How many turns ended in which way. */
  async audit(client: BrokerClient, notes: AgentNotes): Promise<Record<string, number>> {
    const endings: Record<string, number> = {};
    for (let from = 0; from < this.asked.length; from += 20) {
      const some = this.asked.slice(from, from + 20);
      for (const state of await Promise.all(some.map((turn) => this.#auditTurn(client, turn)))) {
        endings[state] = (endings[state] ?? 0) + 1;
      }
    }
    expect(notes.encounters(), "processes that lived beside an agent").toEqual([]);
    const runs = notes.runs();
    for (const turn of this.asked) {
      const own = runs.filter(({ tokens }) => tokens.includes(turn.token));
      await this.#auditRuns(client, turn, own, runs);
    }
    return endings;
  }

  async #auditTurn(client: BrokerClient, asked: AskedTurn): Promise<string> {
    if (!asked.accepted) return this.#auditRefused(client, asked);
    const { turnId } = asked;
    let after = 0;
    let last: TurnEvent | undefined;
    let text = "";
    for await (const { event } of client.attach({ turnId })) {
      if (event === undefined || event.sequence === 0) continue;
      this.seen(asked, event, after);
      after = event.sequence;
      last = event;
      if (event.event.case === "textDelta") text += event.event.value.text;
    }
    const turn = await turnOf(client, turnId);
    const runner = turn.state === TurnState.MERGED ? await turnOf(client, turn.mergedIntoTurnId) : turn;
    expect(encoded(last), `the ending of ${turnId}`).toEqual(encoded(runner.ending));
    if (last?.event.case === "completed") expect(text).toBe(last.event.value.text);
    if (last?.event.case === "interrupted") {
      expect(runner.startedAt, `${turnId} never ran`).toBeDefined();
      expect(last.event.value.journaledThrough).toBeLessThan(last.sequence);
    }
    if (last?.event.case === "cancelled" && last.event.value.reason === Cancelled_Reason.RESTARTED) {
      expect(asked.chosen && asked.detached, `${turnId} waited, and was dropped by a restart`).toBe(false);
    }
    return turn.state === TurnState.MERGED ? "MERGED" : (TurnState[runner.state] ?? "");
  }

  async #auditRefused(client: BrokerClient, { turnId, refused }: AskedTurn): Promise<string> {
    if (!refused) return "never answered";
    if (turnId !== "") expect(await reasonOf(client.getTurn({ turnId }))).toBe("NotFound TURN_NOT_FOUND");
    return "refused";
  }

  async #auditRuns(
    client: BrokerClient,
    asked: AskedTurn,
    runs: readonly AgentRun[],
    allRuns: readonly AgentRun[],
  ): Promise<void> {
    const { token, turnId } = asked;
    expect(runs.length, `${token} was given to an agent ${runs.length} times`).toBeLessThanOrEqual(1);
    if (asked.removed || (asked.refused && !asked.accepted)) {
      expect(runs, `${token} was not to run`).toEqual([]);
    }
    if (!asked.accepted || !asked.chosen) return;
    const turn = await turnOf(client, turnId);
    const runner = turn.state === TurnState.MERGED ? await turnOf(client, turn.mergedIntoTurnId) : turn;
    if (runner.state !== TurnState.COMPLETED) return;
    const [run] = runs;
    expect(run?.ended, `${token} was answered without having been run`).toBe(true);
    const runnerToken = this.asked.find((other) => other.turnId === runner.turnId)?.token;
    // Collected text comes with the other turn's, text to steer with in a line of its own.
    const runnersRun = allRuns.find(
      ({ tokens }) => runnerToken !== undefined && tokens.includes(runnerToken),
    );
    if (runnerToken !== undefined) expect(run?.pid, `${token} went to another agent`).toBe(runnersRun?.pid);
  }
}

async function turnOf(client: BrokerClient, turnId: string): Promise<Turn> {
  const { turn } = await client.getTurn({ turnId });
  if (turn === undefined) throw new Error(`no turn ${turnId}`);
  return turn;
}

function encoded(event: TurnEvent | undefined): string {
  return event === undefined ? "" : Buffer.from(toBinary(TurnEventSchema, event)).toString("base64");
}
