/** One turn in an app server. */
import { TurnErrorCode } from "../../../gen/sessionbroker/v1/turn_pb.js";
import type { ProviderEvent, ProviderRun, ProviderTurn, TurnOutcome } from "../../turns/provider.js";
import type { Failure } from "../ending.js";
import { allowedMs, endOf, failedOutcome, faultOf, stoppedOutcome } from "../ending.js";
import { asRecord } from "../json.js";
import { steerableRun } from "../steerable.js";
import { StopSwitch } from "../stop-switch.js";
import { SurvivorsError } from "../warm-pool.js";
import { ServerGoneError, StartError } from "./app-server.js";
import { classifyCrash, classifyRequestError, classifyTurnError, isLoss } from "./failures.js";
import { answerSchema, turnInput } from "./input.js";
import { OpenError } from "./open.js";
import {
  checkWorkspace,
  completedOutcome,
  failureOf,
  isNativeId,
  type Limits,
  unusableId,
} from "./outcome.js";
import { Place, type PlaceSettings } from "./place.js";
import { Talk, type TalkSettings } from "./talk.js";
import type { Thread } from "./thread.js";

export interface RunSettings extends Limits, TalkSettings, PlaceSettings {
  readonly defaultModel?: string;
  /** Aborted when the provider closes. */
  readonly closing: AbortSignal;
}

/** Runs the turn. Never throws; nothing of the turn runs any more when `end` is given out. */
export function runTurn(settings: RunSettings, turn: ProviderTurn): ProviderRun {
  return steerableRun((onTalk) => turnEvents(settings, turn, onTalk));
}

/** @param onTalk told once the agent is asked */
async function* turnEvents(
  settings: RunSettings,
  turn: ProviderTurn,
  onTalk: (talk: Talk) => void,
): AsyncGenerator<ProviderEvent> {
  const stop = new StopSwitch([turn.signal, settings.closing], allowedMs(settings, turn));
  const stopped = new Promise<undefined>((resolve) => stop.attach(() => resolve(undefined)));
  const model = turn.model ?? settings.defaultModel;
  let place: Place | undefined;
  try {
    const input = turnInput(turn);
    const { nativeId, state } = turn.binding;
    if (state === "bound" && !isNativeId(nativeId ?? "")) {
      yield endOf(failedOutcome(unusableId()));
      return;
    }
    await checkWorkspace(turn);
    place = await Place.take(settings, turn, stopped);
    const thread = await place?.open(turn, model, stopped);
    if (place === undefined || thread === undefined) {
      const survivors = (await place?.leave()) ?? [];
      yield endOf(stoppedOutcome(stop.reason ?? "cancelled", settings, turn), survivors);
      return;
    }
    yield { kind: "started", nativeId: thread.id, resumed: thread.id === nativeId, warm: place.seat.warm };

    // The id is bound now; until here the agent was asked nothing.
    const talk = new Talk(thread, settings, turn.previousTotal);
    if (stop.reason === undefined) {
      place.talk = talk;
      stop.attach(() => talk.stop());
      talk.begin(input, model, answerSchema(turn));
      onTalk(talk);
      yield* talk.events();
    }
    if (talk.end?.kind === "refused" && isLoss(classifyRequestError(talk.end.message))) place.forget();
    const survivors = await place.leave();
    yield endOf(judge(talk, thread, settings, turn, stop), survivors);
  } catch (error) {
    const left = (await place?.leave()) ?? [];
    const survivors = [...left, ...survivorsOf(error)];
    yield endOf(failedOutcome(knownFailure(error) ?? failureOf(error, settings)), survivors);
  } finally {
    stop.dispose();
    // If nobody reads on, nobody waits for the answer either.
    place?.talk?.stop();
    await place?.leave();
  }
}

function judge(
  talk: Talk,
  thread: Thread,
  settings: RunSettings,
  turn: ProviderTurn,
  { reason }: StopSwitch,
): TurnOutcome {
  const { end, fault, account } = talk;
  const result = end?.kind === "over" ? end.turn : undefined;
  if (result?.status === "completed" && !talk.wasInterrupted) {
    return completedOutcome(talk.reader.text, thread.id, turn.model ?? thread.model, account);
  }
  if (fault !== undefined) return failedOutcome(faultOf(fault, settings), account);
  if (reason !== undefined) return stoppedOutcome(reason, settings, turn, account);
  return failedOutcome(failureIn(talk, settings), account);
}

function failureIn({ end }: Talk, settings: RunSettings): Failure {
  if (end?.kind === "refused") return classifyRequestError(end.message);
  if (end?.kind === "gone") {
    const { exit, errorOutput, fault } = end.end;
    return fault === undefined ? classifyCrash(exit, errorOutput) : faultOf(fault, settings);
  }
  const error = end?.kind === "over" ? asRecord(end.turn.error) : undefined;
  if (error !== undefined) return classifyTurnError(error);
  const message = "The agent was interrupted from outside.";
  return { code: TurnErrorCode.CRASHED, message, retryable: true, modelNotAsked: false };
}

/** Of what went wrong before the agent was asked. */
function knownFailure(error: unknown): Failure | undefined {
  if (error instanceof OpenError || error instanceof StartError) return error.failure;
  if (!(error instanceof ServerGoneError)) return undefined;
  return { ...classifyCrash(error.end.exit, error.end.errorOutput), modelNotAsked: true };
}

function survivorsOf(error: unknown): readonly number[] {
  if (error instanceof StartError) return error.survivors;
  return error instanceof SurvivorsError ? error.pids : [];
}
