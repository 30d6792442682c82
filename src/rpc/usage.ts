/** ListUsage. */
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import {
  type ListUsageRequest,
  type ListUsageResponse,
  ListUsageResponseSchema,
} from "../../gen/sessionbroker/v1/usage_pb.js";
import type { Clock } from "../clock.js";
import { usageMessage } from "../turns/session-message.js";
import type { TurnArchive } from "../turns/turn-store.js";
import { dayOf, dayText, type UsagePlace } from "../turns/usage.js";
import { type Caller, whereOf } from "./caller.js";
import { readToken, signToken } from "./page-token.js";

export interface UsageRpcDeps {
  readonly store: TurnArchive;
  readonly clock: Clock;
  readonly signingKey: Uint8Array;
}

/** Where a page ended; the days stay those of the first page, when a new day begins, too. */
interface Cursor {
  readonly after: UsagePlace;
  readonly sinceDay: number;
  readonly untilDay: number;
}

const defaultPageSize = 100;
const defaultDays = 30;

export async function listUsage(
  deps: UsageRpcDeps,
  caller: Caller,
  request: ListUsageRequest,
): Promise<ListUsageResponse> {
  const { pageToken, pageSize, scope, provider, since, until } = request;
  const where = whereOf(caller, scope, provider);
  const asked = [since, until].map((time) => (time === undefined ? undefined : dayOf(timestampMs(time))));
  const purpose = `ListUsage ${caller.name} ${JSON.stringify([scope, provider, ...asked])}`;
  const cursor =
    pageToken === "" ? undefined : (readToken(deps.signingKey, purpose, pageToken, "page_token") as Cursor);
  const today = dayOf(deps.clock.now());
  const [sinceDay = today - defaultDays, untilDay = today] = asked;
  const days = cursor ?? { sinceDay, untilDay };
  const page = await deps.store.listUsage({
    ...where,
    sinceDay: days.sinceDay,
    untilDay: days.untilDay,
    ...(cursor === undefined ? {} : { after: cursor.after }),
    limit: pageSize || defaultPageSize,
  });
  const next = page.next === undefined ? undefined : { ...days, after: page.next };
  return create(ListUsageResponseSchema, {
    rows: page.rows.map(({ day, usage, ...row }) => ({
      ...row,
      day: dayText(day),
      usage: usageMessage(usage),
    })),
    nextPageToken: next === undefined ? "" : signToken(deps.signingKey, purpose, next),
  });
}
