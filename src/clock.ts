/** Time and timers, so that tests and simulations can bring their own. */
export interface Clock {
  /** Milliseconds since the epoch. */
  now(): number;
  /** Calls once after a while; the result cancels. Never keeps the process alive. */
  after(ms: number, task: () => void): () => void;
}

/** Longest delay that a timer of the runtime takes. */
const longestMs = 2 ** 31 - 1;

export const systemClock: Clock = {
  now: Date.now,
  after(ms, task) {
    const timer = setTimeout(task, Math.min(Math.max(ms, 0), longestMs)).unref();
    return () => clearTimeout(timer);
  },
};
