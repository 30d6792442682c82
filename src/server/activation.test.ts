import { describe, expect, it } from "vitest";
import { inheritedSockets } from "./activation.js";

describe("inheritedSockets", () => {
  it.each([
    [{}, {}],
    [{ LISTEN_PID: "7", LISTEN_FDS: "1" }, { port: 3 }],
    [{ LISTEN_PID: "7", LISTEN_FDS: "1", LISTEN_FDNAMES: "socket" }, { socket: 3 }],
    [
      { LISTEN_PID: "7", LISTEN_FDS: "2", LISTEN_FDNAMES: "socket:broker.socket" },
      { socket: 3, port: 4 },
    ],
    [{ LISTEN_PID: "7" }, {}],
    // Another process was meant, which has handed its environment on.
    [{ LISTEN_PID: "8", LISTEN_FDS: "1" }, {}],
  ])("%j: %j", (environment, inherited) => {
    expect(inheritedSockets(environment, 7)).toEqual(inherited);
  });

  it("does not guess which of two is meant", () => {
    expect(() => inheritedSockets({ LISTEN_PID: "7", LISTEN_FDS: "2" }, 7)).toThrow("two sockets");
  });
});
