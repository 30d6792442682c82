import {
  type DescField,
  type DescMessage,
  type DescOneof,
  getOption,
  isFieldSet,
  type Message,
} from "@bufbuild/protobuf";
import { FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import {
  FieldRulesSchema,
  field as fieldOption,
  Ignore,
  message as messageOption,
  oneof as oneofOption,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { type Check, every, unsure } from "./check.js";
import { contentCheck, type MessageChecks } from "./content-check.js";

/** What the options of a message, its fields and its oneofs ask of it; undefined if nothing. */
export function messageCheck(desc: DescMessage, messages: MessageChecks): Check<Message> | undefined {
  const { cel, celExpression, oneof: groups, $unknown } = getOption(desc, messageOption);
  if (cel.length > 0 || celExpression.length > 0 || $unknown?.length) return unsure;
  const grouped = new Set(groups.flatMap(({ fields }) => fields));
  const checks = [
    ...groups.map(({ fields, required }) => groupCheck(desc, fields, required)),
    ...desc.oneofs.map(oneofCheck),
    ...desc.fields.map((field) => fieldCheck(field, grouped.has(field.name), messages)),
  ];
  return every(checks.filter((check) => check !== undefined));
}

/** Of the fields of a `buf.validate.message.oneof`, no two are set. */
function groupCheck(desc: DescMessage, names: readonly string[], required: boolean): Check<Message> {
  const fields = desc.fields.filter(({ name }) => names.includes(name));
  return (message) => {
    const set = fields.filter((field) => isFieldSet(message, field));
    return set.length === 1 || (set.length === 0 && !required);
  };
}

function oneofCheck(oneof: DescOneof): Check<Message> | undefined {
  if (!getOption(oneof, oneofOption).required) return undefined;
  return (message) => oneof.fields.some((field) => isFieldSet(message, field));
}

/**
 * An unset field is passed over if it has presence or is ignored at zero, which
 * is the default for the fields of a group. `required` asks for a field that is
 * set, and without presence that is one that is not zero.
 */
function fieldCheck(field: DescField, grouped: boolean, messages: MessageChecks): Check<Message> | undefined {
  const rules = getOption(field, fieldOption);
  if (rules.ignore === Ignore.ALWAYS) return undefined;
  const isSet: Check<Message> = (message) => isFieldSet(message, field);
  const content = contentCheck(field, rules, messages);
  if (content === undefined) return rules.required ? isSet : undefined;

  const keeps: Check<Message> = (message) => content(read(message, field));
  if (rules.required) return (message) => isSet(message) && keeps(message);
  const passedOver =
    field.presence !== FeatureSet_FieldPresence.IMPLICIT ||
    rules.ignore === Ignore.IF_ZERO_VALUE ||
    (grouped && !isFieldSet(rules, FieldRulesSchema.field.ignore));
  return passedOver ? (message) => !isSet(message) || keeps(message) : keeps;
}

/** Only of a field that is set, or without presence. */
function read(message: Message, { localName, oneof }: DescField): unknown {
  const members = message as Message & Readonly<Record<string, unknown>>;
  if (oneof === undefined) return members[localName];
  return (members[oneof.localName] as { readonly value: unknown }).value;
}
