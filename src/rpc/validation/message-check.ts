import {
  type DescField,
  type DescMessage,
  type DescOneof,
  getOption,
  isFieldSet,
  type Message,
} from "@bufbuild/protobuf";
import { Edition, FeatureSet_FieldPresence } from "@bufbuild/protobuf/wkt";
import {
  FieldRulesSchema,
  field as fieldOption,
  Ignore,
  message as messageOption,
  oneof as oneofOption,
} from "@bufbuild/protovalidate/gen/buf/validate/validate_pb.js";
import { type Members, readerOf } from "../../protobuf/fields.js";
import { type Check, every, unsure } from "./check.js";
import { contentCheck, type MessageChecks } from "./content-check.js";

/** What the options of a message, its fields and its oneofs ask of it; undefined if nothing. */
export function messageCheck(desc: DescMessage, messages: MessageChecks): Check<Message> | undefined {
  const { cel, celExpression, oneof: groups, $unknown } = getOption(desc, messageOption);
  if (cel.length > 0 || celExpression.length > 0 || $unknown?.length) return unsure;
  // Of others, what is not set may be found in their prototypes.
  if (desc.file.edition !== Edition.EDITION_PROTO3) return unsure;
  const grouped = new Set(groups.flatMap(({ fields }) => fields));
  const checks = [
    ...groups.map(({ fields, required }) => groupCheck(desc, fields, required)),
    ...desc.oneofs.map(oneofCheck),
    ...desc.fields.map((field) => fieldCheck(field, grouped.has(field.name), messages)),
  ];
  return every(checks.filter((check) => check !== undefined)) as Check<Message> | undefined;
}

/** Of the fields of a `buf.validate.message.oneof`, no two are set. */
function groupCheck(desc: DescMessage, names: readonly string[], required: boolean): Check<Members> {
  const readers = desc.fields.filter(({ name }) => names.includes(name)).map(readerOf);
  return (message) => {
    let set = 0;
    for (const read of readers) if (read(message) !== undefined) set += 1;
    return set === 1 || (set === 0 && !required);
  };
}

function oneofCheck(oneof: DescOneof): Check<Members> | undefined {
  if (!getOption(oneof, oneofOption).required) return undefined;
  const readers = oneof.fields.map(readerOf);
  return (message) => readers.some((read) => read(message) !== undefined);
}

/**
 * An unset field is passed over if it has presence or is ignored at zero, which
 * is the default for the fields of a group. `required` asks for a field that is
 * set, and without presence that is one that is not zero.
 */
function fieldCheck(field: DescField, grouped: boolean, messages: MessageChecks): Check<Members> | undefined {
  const rules = getOption(field, fieldOption);
  if (rules.ignore === Ignore.ALWAYS) return undefined;
  const read = readerOf(field);
  const content = contentCheck(field, rules, messages);
  if (content === undefined) return rules.required ? (message) => read(message) !== undefined : undefined;
  if (rules.required) {
    return (message) => {
      const value = read(message);
      return value !== undefined && content(value);
    };
  }
  const passedOver =
    field.presence !== FeatureSet_FieldPresence.IMPLICIT ||
    rules.ignore === Ignore.IF_ZERO_VALUE ||
    (grouped && !isFieldSet(rules, FieldRulesSchema.field.ignore));
  if (!passedOver) return (message) => content(message[field.localName]);
  return (message) => {
    const value = read(message);
    return value === undefined || content(value);
  };
}
