/** Without the members of messages that are undefined, which stands for a field that is not set. */
export function whatIsSet(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(whatIsSet);
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  const isMessage = "$typeName" in value;
  const members = Object.entries(value).filter(([, member]) => !isMessage || member !== undefined);
  return Object.fromEntries(members.map(([name, member]) => [name, whatIsSet(member)]));
}
