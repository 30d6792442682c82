/** Refuses what the caller's credential does not allow; each method carries the role it needs. */
import { type DescMethod, getOption, hasOption } from "@bufbuild/protobuf";
import { createContextKey, type Interceptor, type StreamRequest } from "@connectrpc/connect";
import { Role, required_role } from "../../gen/sessionbroker/v1/options_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { BrokerError } from "../errors.js";
import { type Caller, callerKey, roleIncludes } from "./caller.js";
import type { Credentials } from "./credentials.js";
import { untilRevoked } from "./revocation.js";

/** Tells the subject of the certificate that the client has shown. */
export const certificateSubjectKey = createContextKey<() => string | undefined>(() => undefined);

/** The caller that the header of the request was let in with; undefined: it has not been looked at. */
export const seenCallerKey = createContextKey<Caller | undefined>(undefined);

type Chain = ReturnType<Interceptor>;

/** Health and reflection are open to all. */
export function authenticationInterceptor(credentials: () => Credentials): Interceptor {
  return (next) => (request) => {
    if (request.service.typeName !== SessionBroker.typeName) return next(request);
    const known = credentials();
    const seen = request.contextValues.get(seenCallerKey);
    // Its credential may have been taken away while the body was read.
    const caller =
      seen !== undefined && !known.revoked(seen).aborted
        ? seen
        : known.find({
            authorization: request.header.get("authorization"),
            certificateSubject: request.contextValues.get(certificateSubjectKey),
          });
    if (caller === undefined) {
      throw new BrokerError(
        "UNAUTHENTICATED",
        "send Authorization: Bearer <token> with a token of this broker, or show a certificate that it knows",
      );
    }
    const needed = neededRole(request.method);
    if (!roleIncludes(caller.role, needed)) {
      throw new BrokerError(
        "ROLE_TOO_LOW",
        `${request.method.name} needs the role ${Role[needed]?.toLowerCase()}`,
        {
          credential: caller.name,
        },
      );
    }
    request.contextValues.set(callerKey, caller);
    if (!request.stream) return next(request);
    return answerWhileKnown(next, request, known.revoked(caller));
  };
}

async function answerWhileKnown(next: Chain, request: StreamRequest, revoked: AbortSignal) {
  const guarded = <T>(messages: AsyncIterable<T>) => untilRevoked(messages, revoked, request.signal);
  const response = await next({ ...request, message: guarded(request.message) });
  // One that is answered with a single message takes a stream all the same.
  return response.stream ? { ...response, message: guarded(response.message) } : response;
}

/** Reading an option parses all of the method's. */
const neededRoles = new Map(SessionBroker.methods.map((method) => [method, roleOption(method)]));

function neededRole(method: DescMethod): Role {
  return neededRoles.get(method) ?? roleOption(method);
}

function roleOption(method: DescMethod): Role {
  return hasOption(method, required_role) ? getOption(method, required_role) : Role.ADMIN;
}
