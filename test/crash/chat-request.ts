/** One chat request to an adapter, which may be killed before it has answered. */

export interface ChatCall {
  readonly token: string;
  readonly chat: string;
  readonly idempotencyKey: string;
  readonly prompt: string;
  readonly stream: boolean;
}

/** What came of an answer until it ended, or broke off. */
export interface ChatAnswer {
  turnId: string;
  text: string;
  /** It was read to its end, and told no error. */
  whole: boolean;
}

interface Chunk {
  readonly error?: { readonly message: string };
  readonly choices?: readonly { readonly delta: { readonly content?: string } }[];
}

interface Whole {
  readonly choices?: readonly { readonly message: { readonly content: string } }[];
}

/** Never rejects: an adapter that is gone is an answer that is not whole. */
export async function chat(url: string, call: ChatCall, onText: () => void = () => {}): Promise<ChatAnswer> {
  const answer: ChatAnswer = { turnId: "", text: "", whole: false };
  try {
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: "POST",
      headers: {
        authorization: `Bearer ${call.token}`,
        "idempotency-key": call.idempotencyKey,
        "x-session-broker-key": call.chat,
      },
      body: JSON.stringify({
        model: "claude",
        stream: call.stream,
        messages: [{ role: "user", content: call.prompt }],
      }),
    });
    answer.turnId = response.headers.get("x-session-broker-turn-id") ?? "";
    if (call.stream) await readEvents(response, answer, onText);
    else await readWhole(response, answer);
  } catch {
    // It broke off; what came before counts.
  }
  return answer;
}

async function readWhole(response: Response, answer: ChatAnswer): Promise<void> {
  const body = (await response.json()) as Whole;
  answer.text = body.choices?.[0]?.message.content ?? "";
  answer.whole = response.status === 200;
}

async function readEvents(response: Response, answer: ChatAnswer, onText: () => void): Promise<void> {
  let buffer = "";
  const decoder = new TextDecoder();
  for await (const bytes of response.body ?? []) {
    const lines = (buffer + decoder.decode(bytes, { stream: true })).split("\n");
    buffer = lines.pop() ?? "";
    for (const line of lines) {
      if (line === "data: [DONE]") answer.whole = true;
      if (!line.startsWith("data: {")) continue;
      const chunk: Chunk = JSON.parse(line.slice("data: ".length));
      if (chunk.error !== undefined) throw new Error(chunk.error.message);
      const text = chunk.choices?.[0]?.delta.content ?? "";
      answer.text += text;
      if (text !== "") onText();
    }
  }
}
