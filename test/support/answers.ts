/** What a call came to, in few words, for tests that compare many. */
import { Code, ConnectError } from "@connectrpc/connect";
import { ErrorInfoSchema } from "../../gen/google/rpc/error_details_pb.js";

/** `none` if the call succeeds, else code and reason, such as "NotFound SESSION_NOT_FOUND". */
export async function reasonOf(call: Promise<unknown> | AsyncIterable<unknown>): Promise<string> {
  const error = await failureOf(call);
  if (error === undefined) return "none";
  return `${Code[error.code]} ${error.findDetails(ErrorInfoSchema)[0]?.reason}`;
}

export async function failureOf(
  call: Promise<unknown> | AsyncIterable<unknown>,
): Promise<ConnectError | undefined> {
  try {
    if (Symbol.asyncIterator in call) for await (const _ of call);
    else await call;
    return undefined;
  } catch (error) {
    return ConnectError.from(error);
  }
}

/** What programs are told beside the reason. */
export async function detailOf(call: Promise<unknown> | AsyncIterable<unknown>) {
  const error = await failureOf(call);
  return error?.findDetails(ErrorInfoSchema)[0]?.metadata;
}
