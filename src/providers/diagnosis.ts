/**
 * What can be told of a provider without asking a model. A kind says it in its
 * `diagnose`; of one that has none, the health of its provider is all.
 */
import type { Provider } from "../turns/provider.js";
import { isAtLeast } from "./version.js";

export interface Diagnosis {
  /** It can work, as far as can be told. */
  readonly usable: boolean;
  /** Path of the executable or address of the service; absent: there is none. */
  readonly found?: string;
  readonly version?: string;
  /** Absent: it has no version that matters. */
  readonly support?: Support;
  readonly login?: Login;
  /** What is wrong, or may be. */
  readonly problem?: string;
  /** One line on what to do about it. */
  readonly fix?: string;
}

/** `untested`: as new as the oldest version that is known to work, but not one that the tests run. */
export type Support = "tested" | "untested" | "too old" | "unknown";

export interface Login {
  readonly state: "yes" | "no" | "unknown";
  /** What says so, such as the name of a variable; never a secret. */
  readonly by?: string;
}

export interface KnownVersions {
  /** The versions that the tests know, oldest first. */
  readonly tested: readonly [string, ...string[]];
}

/** By kind. What is older than the first of them is told to be updated. */
export const knownVersions: Readonly<Record<string, KnownVersions>> = {
  claude: { tested: ["2.1.197", "2.1.329"] },
  codex: { tested: ["0.169.0"] },
  gemini: { tested: ["0.61.0"] },
};

/** @param version what the agent prints, such as `2.1.329 (Claude Code)` */
export function supportOf(version: string, known: KnownVersions | undefined): Support {
  const number = /\d+\.\d+\.\d+/.exec(version)?.[0];
  if (known === undefined || number === undefined) return "unknown";
  if (known.tested.includes(number)) return "tested";
  const [major = 0, minor = 0, patch = 0] = known.tested[0].split(".").map(Number);
  return isAtLeast(number, [major, minor, patch]) ? "untested" : "too old";
}

/** Of a kind that has no `diagnose`. */
export async function diagnoseByHealth(provider: Provider): Promise<Diagnosis> {
  try {
    const { available, detail } = await provider.health();
    return available
      ? { usable: true, version: detail, support: supportOf(detail, knownVersions[provider.kind]) }
      : {
          usable: false,
          problem: detail,
          fix: "Correct the settings of the provider, or install what it runs.",
        };
  } finally {
    await provider.close();
  }
}
