/** Settings of a provider that cannot be used, found when the configuration is read. */
import type { Provider as ProviderConfig } from "../../gen/sessionbroker/config/v1/config_pb.js";
import { commandProblem } from "./command/template.js";
import { openAiProblem } from "./openai/service.js";

/** What is wrong, beginning with the path of the field within the provider. */
export function providerProblem({ kind, models }: ProviderConfig): string | undefined {
  switch (kind.case) {
    case "command":
      return commandProblem(kind.value, models);
    case "openai":
      return openAiProblem(kind.value);
    default:
      return undefined;
  }
}
