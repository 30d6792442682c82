/**
 * Whether a concurrent history could have happened one operation after another
 * (Wing and Gong, "Testing and verifying concurrent objects", 1993), with the
 * configurations that were tried before remembered (Lowe, "Testing for
 * linearizability", 2017).
 */

export interface Operation<I, O> {
  readonly client: number;
  readonly input: I;
  /** Absent: nobody knows whether it took effect, or when. */
  readonly output?: O;
  /** On one clock for all clients. */
  readonly called: number;
  /** Infinity if there is no output. */
  readonly returned: number;
}

export interface Specification<S, I, O> {
  readonly initial: S;
  /**
   * The state after an operation that took effect on this state; undefined if it
   * could not have had this output. An absent output fits every effect.
   */
  step(state: S, input: I, output: O | undefined): S | undefined;
  /** Equal for equal states. */
  identify(state: S): string;
}

/**
 * An order in which the history is right, or undefined if there is none.
 * Operations without an output may be missing from it.
 */
export function linearize<S, I, O>(
  history: readonly Operation<I, O>[],
  specification: Specification<S, I, O>,
): readonly Operation<I, O>[] | undefined {
  const tried = new Set<string>();
  const order: Operation<I, O>[] = [];

  const search = (pending: readonly Operation<I, O>[], state: S): boolean => {
    if (pending.every((operation) => operation.output === undefined)) return true;
    const configuration = `${pending.map((each) => history.indexOf(each)).join(" ")} ${specification.identify(state)}`;
    if (tried.has(configuration)) return false;
    tried.add(configuration);
    // Whatever was called after another one had returned comes after it.
    const firstReturn = Math.min(...pending.map(({ returned }) => returned));
    for (const operation of pending) {
      if (operation.called > firstReturn) continue;
      const next = specification.step(state, operation.input, operation.output);
      if (next === undefined) continue;
      order.push(operation);
      if (
        search(
          pending.filter((other) => other !== operation),
          next,
        )
      )
        return true;
      order.pop();
    }
    return false;
  };

  return search(history, specification.initial) ? order : undefined;
}
