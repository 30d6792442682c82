/** What a listening socket allows its clients. */
export interface ConnectionLimits {
  /**
   * Connections at once on each listening socket. One more takes the place of the
   * oldest that has not had a request; if there is none, it is closed at once.
   */
  readonly connections: number;
  /** HTTP/2 streams at once on one connection. */
  readonly streamsPerConnection: number;
  /** Bytes of a request's path and header fields, names and values. */
  readonly headerBytes: number;
  /** Header fields of a request. */
  readonly headerFields: number;
  /** HTTP/2: streams that the client cancels, pings and settings, on one connection within 10 s. */
  readonly resetsPerConnection: number;
  /** From the opening of a connection, or the start of a later request, to the end of the header. */
  readonly headersTimeoutMs: number;
  /**
   * From the first to the last byte of an HTTP/1.1 request, and the silence of a
   * client that has not ended its request over HTTP/2. The response may take any
   * time.
   */
  readonly requestTimeoutMs: number;
  /**
   * How long a connection without a request is kept, and a response of which the
   * client takes nothing.
   */
  readonly idleTimeoutMs: number;
}

export const defaultLimits: ConnectionLimits = {
  connections: 4096,
  streamsPerConnection: 250,
  headerBytes: 64 * 1024,
  headerFields: 128,
  resetsPerConnection: 200,
  headersTimeoutMs: 10_000,
  requestTimeoutMs: 300_000,
  idleTimeoutMs: 300_000,
};
