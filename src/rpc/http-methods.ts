/** Requests to an RPC with an HTTP method that it does not have: 405, and which it has. */
import type { DescService } from "@bufbuild/protobuf";
import { MethodOptions_IdempotencyLevel } from "@bufbuild/protobuf/wkt";
import type { RequestHandler } from "../server/handler.js";

/** POST, and for unary methods without side effects Connect's GET. Other paths are the handler's. */
export function withHttpMethods(services: readonly DescService[], handler: RequestHandler): RequestHandler {
  const allowed = new Map<string, readonly string[]>(
    services.flatMap(({ typeName, methods }) =>
      methods.map(({ name, methodKind, idempotency }) => {
        const readsOnly = idempotency === MethodOptions_IdempotencyLevel.NO_SIDE_EFFECTS;
        const methods = methodKind === "unary" && readsOnly ? ["GET", "POST"] : ["POST"];
        return [`/${typeName}/${name}`, methods] as const;
      }),
    ),
  );
  return (request, response) => {
    const methods = allowed.get(request.url?.split("?")[0] ?? "");
    if (methods === undefined || methods.includes(request.method ?? "")) return handler(request, response);
    response.writeHead(405, { allow: methods.join(", ") });
    response.end();
  };
}
