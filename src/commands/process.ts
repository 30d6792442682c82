import type { Address } from "../config/config.js";

export function describeAddress({ host, port }: Address): string {
  return `http://${host.includes(":") ? `[${host}]` : host}:${port}`;
}

/** The first and the second request to stop: SIGTERM or SIGINT. */
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
  return { first, second };
}
