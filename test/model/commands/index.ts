/** Commands against a broker, each checked against the model. */
import type fc from "fast-check";
import { changing } from "./changing.js";
import { clearing } from "./clearing.js";
import type { Command } from "./command.js";
import { dispatching } from "./dispatching.js";
import { lanes } from "./lanes.js";
import { looking } from "./looking.js";
import { passing } from "./passing.js";
import { reserving } from "./reserving.js";
import { watching } from "./watching.js";

export const commands: fc.Arbitrary<Command>[] = [
  ...reserving,
  ...dispatching,
  ...lanes,
  ...changing,
  ...clearing,
  ...looking,
  ...watching,
  ...passing,
];
