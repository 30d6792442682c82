import type { ProviderEvent, ProviderRun, TurnInputPart } from "../turns/provider.js";

/** Whoever speaks to the agent in a turn that runs. */
export interface Steerable {
  steer(input: readonly TurnInputPart[]): Promise<boolean>;
}

/** A run whose agent takes more text from the moment on that `onTalk` is told who speaks to it. */
export function steerableRun(
  begin: (onTalk: (talk: Steerable) => void) => AsyncIterable<ProviderEvent>,
): ProviderRun {
  let talk: Steerable | undefined;
  const events = begin((begun) => {
    talk = begun;
  });
  return {
    [Symbol.asyncIterator]: () => events[Symbol.asyncIterator](),
    steer: async (input) => (await talk?.steer(input)) ?? false,
  };
}
