// Removes the compiler's output, so that no file of a deleted source stays.
import { rmSync } from "node:fs";

rmSync(new URL("../dist", import.meta.url), { recursive: true, force: true });
