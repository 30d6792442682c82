import type { Client } from "@connectrpc/connect";
import type { GetServerInfoResponse } from "../../../gen/sessionbroker/v1/admin_pb.js";
import type { SessionBroker } from "../../../gen/sessionbroker/v1/session_broker_pb.js";

/** Within this time a credential's answer is not asked for again; a revoked one is noticed by then. */
const keptMs = 5000;
const maxKept = 256;

/** What the broker says of itself to a credential, asked once for requests that come close together. */
export function createServerInfo(
  broker: Client<typeof SessionBroker>,
  now: () => number,
): (authorization: string) => Promise<GetServerInfoResponse> {
  const kept = new Map<
    string,
    { readonly answer: Promise<GetServerInfoResponse>; readonly untilMs: number }
  >();
  return (authorization) => {
    const entry = kept.get(authorization);
    if (entry !== undefined && now() < entry.untilMs) return entry.answer;
    kept.delete(authorization);
    const [oldest] = kept.keys();
    if (oldest !== undefined && kept.size >= maxKept) kept.delete(oldest);

    const answer = broker.getServerInfo({}, { headers: { authorization } });
    const fresh = { answer, untilMs: now() + keptMs };
    kept.set(authorization, fresh);
    answer.catch(() => {
      if (kept.get(authorization) === fresh) kept.delete(authorization);
    });
    return answer;
  };
}
