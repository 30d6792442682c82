/** The broker's models, as Anthropic's clients are told of them. */
import type { ModelInfo } from "@anthropic-ai/sdk/resources/models";
import type { Model } from "openai/resources/models";

export function toModelInfo({ id, created }: Model) {
  const createdAt = new Date(created * 1000).toISOString().replace(".000Z", "Z");
  return {
    type: "model",
    id,
    display_name: id,
    created_at: createdAt,
    lifecycle: "active",
    // Nothing of this is known of an agent.
    capabilities: null,
    deprecated_at: null,
    line: null,
    max_input_tokens: null,
    max_tokens: null,
    retires_at: null,
  } satisfies ModelInfo;
}

/** All of them: there is no second page. */
export function toModelPage(models: readonly Model[]) {
  const data = models.map(toModelInfo);
  return { data, has_more: false, first_id: data[0]?.id ?? null, last_id: data.at(-1)?.id ?? null };
}
