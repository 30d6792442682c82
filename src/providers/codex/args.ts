/** The command lines. Nothing that a client has said is part of one. */

/** What a tool may do, and who is asked; see docs/providers/codex.md. */
export interface Sandbox {
  readonly approvalPolicy: unknown;
  readonly sandbox: string;
}

export type PermissionSetting = "deny" | "ask" | "allow";

const sandboxes: Readonly<Record<PermissionSetting, { approvalPolicy: string; sandbox: string }>> = {
  deny: { approvalPolicy: "never", sandbox: "read-only" },
  ask: { approvalPolicy: "on-request", sandbox: "read-only" },
  allow: { approvalPolicy: "never", sandbox: "danger-full-access" },
};

export function sandboxOf(permissions: PermissionSetting): { approvalPolicy: string; sandbox: string } {
  return sandboxes[permissions];
}

export interface CodexArguments {
  readonly permissions: PermissionSetting;
  /** From the configuration; they come last, so that they win. */
  readonly extra: readonly string[];
}

export interface ExecArguments extends CodexArguments {
  /** Absent: a new conversation. */
  readonly resume?: string;
  readonly model?: string;
  /** Paths of files. */
  readonly images: readonly string[];
  /** Path of a file with the JSON Schema of the answer. */
  readonly schema?: string;
}

/** Commands are kept from variables whose names have KEY, SECRET or TOKEN in them: those are the agent's. */
const guard = "shell_environment_policy.ignore_default_excludes=false";

/**
 * What would act by itself, outside turns or without end: look-ups of updates
 * and plugins, statistics, goals that start turns of their own, agents that
 * outlive the turn that started them, and a wait for the network that no
 * configured number of retries ends.
 */
const quiet: readonly string[] = [
  "check_for_update_on_startup=false",
  "analytics.enabled=false",
  "features.plugins=false",
  "features.goals=false",
  "features.multi_agent=false",
  "features.unbounded_connection_retries=false",
];

export function appServerArguments({ permissions, extra }: CodexArguments): string[] {
  return ["app-server", ...settings(permissions), ...extra];
}

/** The prompt is read from the standard input. */
export function execArguments({
  permissions,
  extra,
  resume,
  model,
  images,
  schema,
}: ExecArguments): string[] {
  return [
    "exec",
    ...(resume === undefined ? [] : ["resume"]),
    "--json",
    "--skip-git-repo-check",
    ...settings(permissions),
    ...(model === undefined ? [] : [`--model=${model}`]),
    ...images.map((path) => `--image=${path}`),
    ...(schema === undefined ? [] : [`--output-schema=${schema}`]),
    ...extra,
    ...(resume === undefined ? [] : [resume]),
    "-",
  ];
}

function settings(permissions: PermissionSetting): string[] {
  const { approvalPolicy, sandbox } = sandboxOf(permissions);
  const all = [...quiet, guard, `approval_policy=${approvalPolicy}`, `sandbox_mode=${sandbox}`];
  return all.flatMap((setting) => ["-c", setting]);
}
