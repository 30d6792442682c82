/** The service as routes of a Connect router, with everything that guards it. */
import type { ConnectRouter, Interceptor } from "@connectrpc/connect";
import { createValidateInterceptor } from "@connectrpc/validate";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { authenticationInterceptor } from "./authentication.js";
import { type BackupDeps, backup } from "./backup.js";
import { callerOf } from "./caller.js";
import type { Credentials } from "./credentials.js";
import { errorInterceptor } from "./errors.js";
import { laneMethods } from "./lanes.js";
import { resolveSelection, type SelectionDeps } from "./selection.js";
import { type ServerInfoDeps, serverInfoMethod } from "./server-info.js";
import { type SessionRpcDeps, sessionMethods } from "./sessions.js";
import { exportSessions, importSessions } from "./transfer.js";
import { listTurns, type TurnListDeps } from "./turn-list.js";
import { type TurnRpcDeps, turnMethods } from "./turns.js";
import { listUsage, type UsageRpcDeps } from "./usage.js";
import { requestValidator } from "./validation/validator.js";
import { watchSessions } from "./watch.js";

export type ServiceDeps = SessionRpcDeps &
  SelectionDeps &
  TurnRpcDeps &
  TurnListDeps &
  UsageRpcDeps &
  ServerInfoDeps &
  BackupDeps;

export function serviceRoutes(deps: ServiceDeps): (router: ConnectRouter) => void {
  return (router) => {
    router.service(SessionBroker, {
      resolveSelection: (request, context) => resolveSelection(deps, callerOf(context), request),
      watchSessions: (request, context) => watchSessions(deps, request, context),
      exportSessions: (request, context) => exportSessions(deps, request, context),
      importSessions: (requests, context) => importSessions(deps, requests, context),
      ...sessionMethods(deps),
      ...turnMethods(deps),
      ...laneMethods(deps),
      listTurns: (request, context) => listTurns(deps, callerOf(context), request),
      listUsage: (request, context) => listUsage(deps, callerOf(context), request),
      backup: (request, context) => backup(deps, request, context),
      ...serverInfoMethod(deps),
    });
  };
}

/** From the outside in: errors, who asks, what is asked. */
export function serviceInterceptors(
  credentials: () => Credentials,
  onUnexpected: (method: string, error: unknown) => void,
): Interceptor[] {
  return [
    errorInterceptor(onUnexpected),
    authenticationInterceptor(credentials),
    createValidateInterceptor({ validator: requestValidator() }),
  ];
}
