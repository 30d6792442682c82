/** What a child process may know of the broker's environment. */

import type { ProviderTurn } from "../turns/provider.js";

/** Name of the variable that marks every process started for a session. */
export const childMarkVariable = "SESSION_BROKER_CHILD";

const alwaysAllowed: readonly string[] = [
  "PATH",
  "HOME",
  "USER",
  "LOGNAME",
  "SHELL",
  "LANG",
  "LC_*",
  "TZ",
  "TERM",
  "TMPDIR",
  "XDG_*",
  "SSL_CERT_*",
  "NODE_EXTRA_CA_CERTS",
  "HTTP_PROXY",
  "HTTPS_PROXY",
  "NO_PROXY",
  "http_proxy",
  "https_proxy",
  "no_proxy",
];

/** Never handed on, whoever asks for it: the broker's own secrets, and what loads code into a child. */
const neverAllowed: readonly string[] = ["SESSION_BROKER_*", "NODE_OPTIONS", "LD_*", "DYLD_*"];

/**
 * The environment of a child: those variables of the parent that are on the
 * general list or in `allowed`, and then `extra`. A trailing `*` in a name
 * stands for any ending.
 */
export function childEnvironment(
  parent: Readonly<Record<string, string | undefined>>,
  allowed: readonly string[],
  extra: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const inherited = Object.entries(parent).filter(([name]) =>
    matchesAny(name, [...alwaysAllowed, ...allowed]),
  );
  const environment: Record<string, string> = {};
  for (const [name, value] of [...inherited, ...Object.entries(extra)]) {
    if (value !== undefined && !matchesAny(name, neverAllowed)) environment[name] = value;
  }
  const mark = extra[childMarkVariable];
  if (mark !== undefined) environment[childMarkVariable] = mark;
  return environment;
}

/** What every process that is started for a turn is given, besides its environment. */
export function turnVariables({
  childMark,
  trace = {},
}: Pick<ProviderTurn, "childMark" | "trace">): Record<string, string> {
  const { traceparent, tracestate } = trace;
  return {
    [childMarkVariable]: childMark,
    ...(traceparent === undefined ? {} : { TRACEPARENT: traceparent }),
    ...(tracestate === undefined ? {} : { TRACESTATE: tracestate }),
  };
}

function matchesAny(name: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) =>
    pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
  );
}
