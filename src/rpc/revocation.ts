/** Streams whose credential goes away while they run. */
import { BrokerError } from "../errors.js";

/**
 * The messages, until they are revoked: then UNAUTHENTICATED, also while none comes.
 *
 * @param left aborted when the caller has left: nobody may read on then, or end what is read
 */
export async function* untilRevoked<T>(
  messages: AsyncIterable<T>,
  revoked: AbortSignal,
  left: AbortSignal,
): AsyncGenerator<T> {
  const iterator = messages[Symbol.asyncIterator]();
  let fail: (error: Error) => void = () => {};
  const end = () => fail(revokedError());
  const forget = () => revoked.removeEventListener("abort", end);
  revoked.addEventListener("abort", end);
  left.addEventListener("abort", forget);
  try {
    for (;;) {
      if (revoked.aborted) throw revokedError();
      const next = await new Promise<IteratorResult<T>>((resolve, reject) => {
        fail = reject;
        iterator.next().then(resolve, reject);
      });
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    forget();
    left.removeEventListener("abort", forget);
    // One that waits for something to happen ends when it has happened, or with its request.
    iterator.return?.().catch(() => {});
  }
}

function revokedError(): BrokerError {
  return new BrokerError("UNAUTHENTICATED", "the credential of this call was taken away or changed");
}
