// A stream of small deltas, made as fast as they are taken.

/** Attach, of a turn whose id says how many deltas there are. */
export async function* attach({ turnId }) {
  const time = { seconds: 1_700_000_000n, nanos: 0 };
  for (let sequence = 1; sequence <= Number(turnId); sequence++) {
    yield { event: { turnId, sequence, time, event: { case: "textDelta", value: { text: " word" } } } };
  }
}
