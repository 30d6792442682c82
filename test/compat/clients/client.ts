/** What a real client is to the tests: something that opens chats and keeps them in its own way. */

export interface ChatOptions {
  /** Of the API, ending with /v1. */
  readonly baseURL: string;
  readonly token: string;
  readonly model: string;
  readonly headers: Readonly<Record<string, string>>;
}

export interface Chat {
  /** Sends the chat so far and `text`, or with `alone` nothing but `text`. Rejects with the client's own error. */
  say(text: string, how?: { readonly stream?: boolean; readonly alone?: boolean }): Promise<Told>;
}

export interface Told {
  readonly text: string;
  /** How many pieces of text came. */
  readonly pieces: number;
  readonly inputTokens: number;
  readonly outputTokens: number;
}

export interface Failure {
  /** The class of the error, as the client's documentation names it. */
  readonly type: string;
  readonly status: number | undefined;
}

export interface RealClient {
  readonly name: string;
  open(options: ChatOptions): Chat;
  failureOf(error: unknown): Failure;
  /** What the client makes of these answers. */
  readonly failures: { readonly unknownModel: string; readonly badToken: string };
}

/** All pieces of a stream. */
export async function collect(stream: AsyncIterable<string>): Promise<{ text: string; pieces: number }> {
  const pieces: string[] = [];
  for await (const piece of stream) if (piece !== "") pieces.push(piece);
  return { text: pieces.join(""), pieces: pieces.length };
}
