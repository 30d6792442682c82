/** The one place where what went wrong becomes an error of the contract. */
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { ErrorInfoSchema, RetryInfoSchema } from "../../gen/google/rpc/error_details_pb.js";
import { BrokerError, errorTable } from "../errors.js";
import { staged } from "./staged-stream.js";

const domain = "sessionbroker.v1";

/** Errors without a place in the table are told as INTERNAL, without their text. */
export function toConnectError(error: unknown): ConnectError {
  if (error instanceof ConnectError) return withReason(error);
  if (error instanceof BrokerError) return fromBrokerError(error);
  if (error instanceof Error && error.name === "AbortError")
    return new ConnectError("canceled", Code.Canceled);
  return fromBrokerError(new BrokerError("INTERNAL", "an internal error; the broker's log has the details"));
}

/** True for a defect: something that the caller did not cause and the table does not foresee. */
export function isUnexpected(error: unknown): boolean {
  if (error instanceof ConnectError) return error.code === Code.Internal || error.code === Code.Unknown;
  if (error instanceof BrokerError) return error.reason === "INTERNAL";
  return !(error instanceof Error && error.name === "AbortError");
}

/** Turns what handlers throw, before or in the middle of a stream, into errors of the contract. */
export function errorInterceptor(onUnexpected: (method: string, error: unknown) => void): Interceptor {
  const convert = (method: string, error: unknown): ConnectError => {
    if (isUnexpected(error)) onUnexpected(method, error);
    return toConnectError(error);
  };
  return (next) => async (request) => {
    try {
      const response = await next(request);
      if (!response.stream) return response;
      return {
        ...response,
        message: staged(response.message, { failed: (error) => convert(request.method.name, error) }),
      };
    } catch (error) {
      throw convert(request.method.name, error);
    }
  };
}

/** A request that breaks a rule of the proto says so to programs, too. */
function withReason(error: ConnectError): ConnectError {
  const told = error.findDetails(ErrorInfoSchema).length > 0;
  if (error.code === Code.InvalidArgument && !told) {
    error.details.push({
      desc: ErrorInfoSchema,
      value: create(ErrorInfoSchema, { reason: "INVALID_FIELD", domain }),
    });
  }
  return error;
}

function fromBrokerError(error: BrokerError): ConnectError {
  const { code } = errorTable[error.reason];
  const connectError = new ConnectError(error.message, code, undefined, undefined, error);
  connectError.details.push({
    desc: ErrorInfoSchema,
    value: create(ErrorInfoSchema, { reason: error.reason, domain, metadata: { ...error.metadata } }),
  });
  if (error.retryAfterMs !== undefined) {
    connectError.details.push({
      desc: RetryInfoSchema,
      value: create(RetryInfoSchema, { retryDelay: durationFromMs(error.retryAfterMs) }),
    });
  }
  return connectError;
}
