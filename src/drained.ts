/** What bytes are written to. */
interface Sink {
  readonly destroyed: boolean;
  readonly writableNeedDrain: boolean;
  on(event: "drain" | "close", listener: () => void): unknown;
  off(event: "drain" | "close", listener: () => void): unknown;
}

/** Resolves once there is room for more, or nobody takes any more. */
export function drained(sink: Sink): Promise<void> {
  return new Promise((resolve) => {
    if (sink.destroyed || !sink.writableNeedDrain) return resolve();
    const settle = () => {
      sink.off("drain", settle);
      sink.off("close", settle);
      resolve();
    };
    sink.on("drain", settle);
    sink.on("close", settle);
  });
}
