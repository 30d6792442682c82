import { setFlagsFromString } from "node:v8";

/**
 * Lets the heap grow by 40 % between two full collections, instead of up to four
 * times. What a turn holds lives for seconds and then goes: with 500 turns
 * streaming, V8's own choice keeps over twice the memory, most of it garbage.
 * To be called first.
 */
export function keepHeapSmall(): void {
  setFlagsFromString("--heap-growing-percent=40");
}

/**
 * Options of Node.js for a broker, which only the one who starts it can give.
 * Room for what is young, in MiB, twice the default: what hangs on a connection
 * until its next request is not taken for old then, of which there would be a
 * full collection several times a second with a few hundred busy connections.
 */
export const brokerHeapOptions = ["--max-semi-space-size=32"];
