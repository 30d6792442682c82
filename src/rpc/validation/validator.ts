/**
 * Validation that costs next to nothing for a request that is valid.
 *
 * The first message of a type has the rules of its type, as protovalidate reads
 * them from the options of its descriptor, put together into one check: plain
 * functions, one for each rule, in one for each field. The check may say no to
 * a message that is valid, as of rules that it does not know (expressions in
 * CEL, most of all), but never yes to one that is not. Every message with a no
 * goes to protovalidate, which decides and words the violations.
 */
import type { DescMessage, Message, MessageShape, MessageValidType } from "@bufbuild/protobuf";
import { createValidator, type Validator } from "@bufbuild/protovalidate";
import { type Check, sure } from "./check.js";
import { messageCheck } from "./message-check.js";

export function requestValidator(): Validator {
  const surelyValid = messageChecks();
  const protovalidate = createValidator();
  return {
    validate<Desc extends DescMessage>(schema: Desc, message: MessageShape<Desc>) {
      if (!surelyValid(schema)(message)) return protovalidate.validate(schema, message);
      const valid = message as MessageValidType<Desc>;
      return { kind: "valid", message: valid, error: undefined, violations: undefined };
    },
  };
}

/** The check of each type of message, made when it is first asked for. */
export function messageChecks(): (desc: DescMessage) => Check<Message> {
  const made = new Map<DescMessage, Check<Message> | undefined>();
  const checkOf = (desc: DescMessage): Check<Message> | undefined => {
    if (made.has(desc)) return made.get(desc);
    // What a type that holds itself finds inside, while its check is being made.
    made.set(desc, (message) => made.get(desc)?.(message) ?? true);
    const check = messageCheck(desc, checkOf);
    made.set(desc, check);
    return check;
  };
  return (desc) => checkOf(desc) ?? sure;
}
