import type { Address } from "../config/config.js";

/** @param tls whether it is met with TLS. Default: false */
export function describeAddress({ host, port }: Address, tls = false): string {
  return `${tls ? "https" : "http"}://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** Set for a process that shall stop when its standard input ends: then its parent has gone. */
export const stopWithInput = "SESSION_BROKER_STOP_WITH_INPUT";

/** The first and the second request to stop: SIGTERM, SIGINT, or the end of the parent. */
export function untilStopped(): { readonly first: Promise<void>; readonly second: Promise<void> } {
  let stopFirst = () => {};
  let stopSecond = () => {};
  const first = new Promise<void>((resolve) => {
    stopFirst = resolve;
  });
  const second = new Promise<void>((resolve) => {
    stopSecond = resolve;
  });
  let asked = 0;
  const ask = () => {
    asked += 1;
    if (asked === 1) stopFirst();
    else stopSecond();
  };
  process.on("SIGTERM", ask);
  process.on("SIGINT", ask);
  if (process.env[stopWithInput] !== undefined) process.stdin.on("end", ask).on("error", ask).resume();
  return { first, second };
}
