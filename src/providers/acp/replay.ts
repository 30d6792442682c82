/**
 * The end of a replay. An agent that loads a conversation says its history
 * again before it answers, by the protocol; gemini 0.61.0 goes on after its
 * answer, even into the next prompt. It writes one update at a time, so one
 * that still writes has something to say before any answer to a ping of ours.
 *
 * @param ping resolves with whether the agent answers pings at all
 * @param updates how many it has sent so far
 */
export async function replayIsOver(ping: () => Promise<boolean>, updates: () => number): Promise<void> {
  // Two quiet answers: an update may have been on its way before the first one.
  for (let quiet = 0; quiet < 2; ) {
    const before = updates();
    if (!(await ping())) return;
    quiet = updates() === before ? quiet + 1 : 0;
  }
}
