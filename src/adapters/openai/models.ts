/** GET /v1/models and GET /v1/models/{id} */
import type { Model } from "openai/resources/models";
import type { GetServerInfoResponse } from "../../../gen/sessionbroker/v1/admin_pb.js";
import { toModelInfo, toModelPage } from "../anthropic/models.js";
import type { Call } from "./call.js";
import { unknownModel } from "./model.js";

/** Each provider, for its default model, and each of its models. */
export function toModels({ providers, startedAt }: GetServerInfoResponse): Model[] {
  const created = Number(startedAt?.seconds ?? 0n);
  return providers
    .flatMap(({ id, models }) => [id, ...models.map((model) => `${id}/${model}`)])
    .map((id) => ({ id, object: "model", created, owned_by: "session-broker" }));
}

export async function handleModels(call: Call): Promise<void> {
  const data = toModels(await call.serverInfo());
  call.sendJson(isOfAnthropic(call) ? toModelPage(data) : { object: "list", data });
}

export async function handleModel(call: Call, id: string): Promise<void> {
  const model = toModels(await call.serverInfo()).find((candidate) => candidate.id === id);
  if (model === undefined) throw unknownModel(id);
  call.sendJson(isOfAnthropic(call) ? toModelInfo(model) : model);
}

/** Both APIs have these routes. Anthropic's clients name the version of theirs. */
export function isOfAnthropic({ req }: Pick<Call, "req">): boolean {
  return req.headers["anthropic-version"] !== undefined;
}
