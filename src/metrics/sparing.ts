/** Asks again only when asking takes up no more than a hundredth of the time; until then the last answer holds. */
export function sparing(ask: () => number, now: () => number = () => performance.now()): () => number {
  let answer = 0;
  let holdsUntilMs = Number.NEGATIVE_INFINITY;
  return () => {
    const fromMs = now();
    if (fromMs < holdsUntilMs) return answer;
    answer = ask();
    const doneMs = now();
    holdsUntilMs = doneMs + (doneMs - fromMs) * 100;
    return answer;
  };
}
