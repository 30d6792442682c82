/** How a command names a session: by its id, or by the three parts of its key. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { GetSessionRequestSchema } from "../../gen/sessionbroker/v1/session_pb.js";

export interface SessionName {
  readonly sessionId: string | undefined;
  /** With a session id: only there. */
  readonly scope: string;
  readonly externalId: string;
  readonly provider: string;
}

export function selectorOf({
  sessionId,
  scope,
  externalId,
  provider,
}: SessionName): Required<Pick<MessageInitShape<typeof GetSessionRequestSchema>, "selector" | "scope">> {
  return sessionId === undefined
    ? { selector: { case: "key", value: { scope, externalId, provider } }, scope: "" }
    : { selector: { case: "sessionId", value: sessionId }, scope };
}
