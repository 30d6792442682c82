/**
 * Questions of a running agent, each answered at most once.
 *
 *     asked ──respond──▶ decided
 *       ├──deadline────▶ decided: denied
 *       └──the turn ends, its agent is replaced, or waits no more──▶ void
 */
import { createHash, randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import {
  type PermissionDecision,
  PermissionDecisionSchema,
  type PermissionRequest,
  PermissionRequestSchema,
} from "../../gen/sessionbroker/v1/turn_pb.js";
import type { Clock } from "../clock.js";
import { BrokerError } from "../errors.js";
import type { ProviderEvent } from "./provider.js";
import type { TurnLog } from "./turn-log.js";

type Question = Extract<ProviderEvent, { kind: "permission" }>;

interface Pending {
  readonly request: PermissionRequest;
  readonly question: Question;
  readonly cancelDeadline: () => void;
}

export interface PermissionAnswer {
  readonly permissionId: string;
  readonly inputDigest: string;
  readonly allow: boolean;
  readonly message: string;
}

export class Permissions {
  readonly #pending = new Map<string, Pending>();
  readonly #decided = new Set<string>();

  constructor(
    private readonly log: TurnLog,
    private readonly clock: Clock,
  ) {}

  /** Questions that nobody has answered yet, oldest first. */
  get pending(): readonly PermissionRequest[] {
    return [...this.#pending.values()].map(({ request }) => request);
  }

  /** Shows the question to the readers. Nobody answers in time: no. */
  ask(question: Question, withinMs: number): void {
    const permissionId = randomUUID();
    const request = create(PermissionRequestSchema, {
      permissionId,
      tool: question.tool,
      input: question.input,
      inputDigest: createHash("sha256").update(question.input).digest("hex"),
      deadline: timestampFromMs(this.clock.now() + withinMs),
    });
    const cancelDeadline = this.clock.after(withinMs, () =>
      this.#decide(permissionId, false, "nobody answered in time"),
    );
    this.#pending.set(permissionId, { request, question, cancelDeadline });
    question.withdrawn.addEventListener("abort", () => {
      cancelDeadline();
      this.#pending.delete(permissionId);
    });
    this.log.add({ case: "permissionRequest", value: request });
  }

  /** @throws BrokerError PERMISSION_NOT_FOUND, PERMISSION_DECIDED, PERMISSION_MISMATCH */
  respond({ permissionId, inputDigest, allow, message }: PermissionAnswer): PermissionDecision {
    if (this.#decided.has(permissionId)) {
      throw new BrokerError("PERMISSION_DECIDED", "permission_id: the request has been decided");
    }
    const pending = this.#pending.get(permissionId);
    if (pending === undefined) {
      throw new BrokerError(
        "PERMISSION_NOT_FOUND",
        `permission_id: the turn asks nothing as ${permissionId}`,
      );
    }
    if (pending.request.inputDigest !== inputDigest) {
      throw new BrokerError("PERMISSION_MISMATCH", "input_digest: the request is about another input");
    }
    return this.#decide(permissionId, allow, message);
  }

  /** The agent that asked waits no more. */
  void(): void {
    for (const { cancelDeadline } of this.#pending.values()) cancelDeadline();
    this.#pending.clear();
  }

  #decide(permissionId: string, allowed: boolean, message: string): PermissionDecision {
    const pending = this.#pending.get(permissionId);
    pending?.cancelDeadline();
    this.#pending.delete(permissionId);
    this.#decided.add(permissionId);
    const decision = create(PermissionDecisionSchema, { permissionId, allowed, message });
    this.log.add({ case: "permissionDecision", value: decision });
    pending?.question.decide({ allowed, message });
    return decision;
  }
}
