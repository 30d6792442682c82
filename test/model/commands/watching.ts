/** WatchSessions: from now, and from where a watcher was, also after restarts. */
import fc from "fast-check";
import { expect } from "vitest";
import {
  type WatchSessionsResponse,
  WatchSessionsResponse_Change,
} from "../../../gen/sessionbroker/v1/session_pb.js";
import type { IdentityModel } from "../identity/model.js";
import { type Change, sameKey } from "../identity/rows.js";
import {
  as,
  at,
  type Command,
  command,
  foreignPattern,
  inScope,
  name,
  ownCommand,
  pick,
  type Real,
  refusedBy,
  rowName,
  type Stage,
} from "./command.js";
import { reserve } from "./reserving.js";
import { chats, markKey, openclaw, rooms, sees } from "./setting.js";
import { Reading, type Watcher } from "./streams.js";

export const watching: fc.Arbitrary<Command>[] = [
  command(
    "Watch",
    {
      scope: fc.constantFrom("", "", "acme/*", chats, openclaw),
      provider: fc.constantFrom("", "", "", "echo", "codex"),
    },
    watch,
  ),
  ownCommand("ReadWatch", { pick, again: fc.boolean() }, async (c, m, r) => {
    const { watchers } = r.streams;
    if (watchers.length > 0) await readWatch(m, r, at(watchers, c.pick), c.again);
  }),
];

async function watch(
  filter: { readonly scope: string; readonly provider: string },
  m: IdentityModel,
  r: Real,
): Promise<void> {
  const open = (signal: AbortSignal) => r.client.watchSessions(filter, { signal });
  const foreign = foreignPattern(r, filter.scope);
  if (foreign !== undefined)
    return refusedBy(
      foreign,
      new Reading(open).until((items) => items[0]),
    );
  const reading = new Reading(open);
  const { change, revision } = await reading.until((items) => items[0]);
  expect(WatchSessionsResponse_Change[change]).toBe("HEARTBEAT");
  r.streams.watchers.push({ filter, caller: r.caller, revision, groups: m.changes.length, reading });
}

/** Reads what every watcher has been told by now. */
export async function readAllWatches(m: IdentityModel, stage: Stage): Promise<void> {
  for (const watcher of stage.streams.watchers) await readWatch(m, stage, watcher, true);
}

/**
 * Makes one more change, reads the stream as far as that one, and compares it
 * with the model. A watcher whose stream is gone, or that looks again, goes on
 * from the revision that it remembers.
 */
async function readWatch(m: IdentityModel, stage: Stage, watcher: Watcher, again: boolean): Promise<void> {
  const { filter, caller } = watcher;
  const isSeen = (change: Change) =>
    inScope(filter.scope, { sees: sees(caller) }, { key: change.key }) &&
    (filter.provider === "" || change.key.provider === filter.provider);
  const room = rooms.find((key) => isSeen({ kind: "UPDATED", key, sessionId: "" }));
  if (room === undefined) return;
  const last = markKey(room.scope, room.provider);
  await reserve(m, as(stage, "admin-token"), last, { labels: { mark: String(m.changes.length) } });
  const wanted = m.changes
    .slice(watcher.groups)
    .map((group) => group.filter(isSeen))
    .filter((group) => group.length > 0);
  const marks = wanted.flat().filter(({ key }) => sameKey(key, last)).length;
  const follower = as(stage, caller);
  const resume = (signal: AbortSignal) =>
    follower.client.watchSessions({ ...filter, afterRevision: watcher.revision }, { signal });
  if (again) watcher.reading?.leave();
  const reading = again || watcher.reading === undefined ? new Reading(resume) : watcher.reading;
  const found = await reading.until((items) => {
    const changes = items.filter(({ change }) => change !== WatchSessionsResponse_Change.HEARTBEAT);
    const { scope, storeKey, provider } = last;
    const told = changes.filter(
      ({ session }) =>
        session?.key?.scope === scope &&
        session.key.externalId === storeKey &&
        session.key.provider === provider,
    );
    return told.length >= marks ? changes : undefined;
  });
  expect(grouped(found.map(nameOfTold), wanted)).toEqual(wanted.map((group) => group.map(nameOf).sort()));
  watcher.revision = found.at(-1)?.revision ?? watcher.revision;
  watcher.groups = m.changes.length;
  // The stream goes on from here.
  reading.items.length = 0;
  watcher.reading = reading;
}

/** What was told, cut as the model's groups are; within one the order does not matter. */
function grouped(told: readonly string[], groups: readonly (readonly Change[])[]): string[][] {
  let from = 0;
  const cut = groups.map(({ length }) => {
    from += length;
    return told.slice(from - length, from).sort();
  });
  return from < told.length ? [...cut, told.slice(from)] : cut;
}

function nameOf({ kind, key, sessionId }: Change): string {
  return `${kind} ${rowName({ key, sessionId })}`;
}

function nameOfTold({ change, session }: WatchSessionsResponse): string {
  if (session === undefined) throw new Error("a change names a session");
  return `${WatchSessionsResponse_Change[change]} ${name(session)}`;
}
