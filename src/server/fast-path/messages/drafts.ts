/** Messages before their fields are read, for the readers beside this file. */
import { create, type DescField, type DescMessage } from "@bufbuild/protobuf";

/** A message that is being read. */
export type Draft = Record<string, unknown>;

/**
 * Makes messages with all members, those that are not set as undefined: the
 * engine gives an object that gets another member later a shape of its own each
 * time, and whoever reads it has to find its members anew.
 */
export function draftsOf(desc: DescMessage, fields: readonly DescField[]): () => Draft {
  const blank: Draft = { ...create(desc) };
  for (const { localName, oneof } of fields) blank[oneof?.localName ?? localName] ??= undefined;
  const containers = fields.flatMap(containerOf);
  return () => {
    const draft: Draft = { ...blank };
    for (const { name, make } of containers) draft[name] = make();
    return draft;
  };
}

/** What each message has of its own. */
function containerOf(field: DescField): { name: string; make: () => unknown }[] {
  if (field.oneof !== undefined) return [{ name: field.oneof.localName, make: () => ({ case: undefined }) }];
  if (field.fieldKind === "list") return [{ name: field.localName, make: () => [] }];
  if (field.fieldKind === "map") return [{ name: field.localName, make: () => ({}) }];
  return [];
}
