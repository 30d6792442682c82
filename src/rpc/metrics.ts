/** Tells of each RPC that has ended: which method, with which code, how long it took. */
import type { DescMethod, DescService } from "@bufbuild/protobuf";
import { ConnectError, type Interceptor } from "@connectrpc/connect";
import { codeToString } from "@connectrpc/connect/protocol-connect";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { errorTable } from "../errors.js";
import type { EndedRpc } from "../metrics/record.js";
import type { RequestHandler } from "../server/handler.js";
import { staged } from "./staged-stream.js";

export type OnEnded = (rpc: EndedRpc) => void;

/** The outermost interceptor: it has to see the errors as callers are told them. */
export function metricsInterceptor(services: readonly DescService[], onEnded: OnEnded): Interceptor {
  const names = new Map<DescMethod, string>(
    services.flatMap(({ typeName, methods }) =>
      methods.map((method) => [method, `${typeName}/${method.name}`] as const),
    ),
  );
  return (next) => async (request) => {
    const startedMs = performance.now();
    const method = names.get(request.method) ?? "other";
    const end = (outcome: Pick<EndedRpc, "code" | "reason">) =>
      onEnded({ method, ...outcome, seconds: (performance.now() - startedMs) / 1000 });
    try {
      const response = await next(request);
      if (response.stream) return { ...response, message: untilEnd(response.message, end) };
      end(ok);
      return response;
    } catch (error) {
      end(failure(error));
      throw error;
    }
  };
}

/** Answers a path that is no method of any service. */
export function unknownMethodHandler(onEnded: OnEnded): RequestHandler {
  return (_request, response) => {
    onEnded({ method: "other", code: "unimplemented" });
    response.writeHead(404);
    response.end();
  };
}

const ok = { code: "ok" } as const;

function untilEnd<T>(
  messages: AsyncIterable<T>,
  end: (outcome: Pick<EndedRpc, "code" | "reason">) => void,
): AsyncIterable<T> {
  return staged(messages, {
    ended(ending) {
      if (ending.how === "failed") end(failure(ending.reason));
      // Left: nobody reads on, the caller has gone.
      else end(ending.how === "read" ? ok : { code: "canceled" });
    },
  });
}

function failure(error: unknown): Pick<EndedRpc, "code" | "reason"> {
  const connectError = ConnectError.from(error);
  const reason = connectError.findDetails(ErrorInfoSchema)[0]?.reason;
  const code = codeToString(connectError.code);
  return reason !== undefined && reason in errorTable ? { code, reason } : { code };
}
