/** Streams whose credential goes away while they run. */
import { BrokerError } from "../errors.js";
import { staged } from "./staged-stream.js";

/**
 * The messages, until they are revoked: then UNAUTHENTICATED, also while none comes.
 *
 * @param left aborted when the caller has left: nobody may read on then, or end what is read
 */
export function untilRevoked<T>(
  messages: AsyncIterable<T>,
  revoked: AbortSignal,
  left: AbortSignal,
): AsyncIterable<T> {
  let end = () => {};
  const forget = () => {
    revoked.removeEventListener("abort", end);
    left.removeEventListener("abort", forget);
  };
  return staged(messages, {
    begun(fail) {
      end = () => fail(revokedError());
      if (revoked.aborted) return end();
      revoked.addEventListener("abort", end);
      left.addEventListener("abort", forget);
    },
    ended: forget,
  });
}

function revokedError(): BrokerError {
  return new BrokerError("UNAUTHENTICATED", "the credential of this call was taken away or changed");
}
