/** Which credential may call which method, as the contract says it of each method. */
import { createHash } from "node:crypto";
import { getOption, hasOption } from "@bufbuild/protobuf";
import { createClient } from "@connectrpc/connect";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Health } from "../../gen/grpc/health/v1/health_pb.js";
import { ServerReflection } from "../../gen/grpc/reflection/v1/reflection_pb.js";
import { Role, required_role } from "../../gen/sessionbroker/v1/options_pb.js";
import { SessionBroker } from "../../gen/sessionbroker/v1/session_broker_pb.js";
import { reasonOf } from "../support/answers.js";
import { TestBroker } from "../support/broker.js";

const roles = [Role.READ, Role.DISPATCH, Role.ADMIN, Role.APPROVE];
/** Each role with those whose methods it may call; those who dispatch turns answer for their own. */
const included = new Map([
  [Role.READ, [Role.READ]],
  [Role.DISPATCH, [Role.READ, Role.DISPATCH, Role.APPROVE]],
  [Role.ADMIN, [Role.READ, Role.DISPATCH, Role.APPROVE, Role.ADMIN]],
  [Role.APPROVE, [Role.READ, Role.APPROVE]],
]);
const tokenOf = (role: Role) => `secret-${Role[role]}`;
const credentials = roles.map((role) => ({
  name: Role[role],
  tokenSha256: createHash("sha256").update(tokenOf(role)).digest("hex"),
  role: `ROLE_${Role[role]}`,
}));

let broker: TestBroker;

beforeAll(async () => {
  broker = await TestBroker.start({ config: JSON.stringify({ credentials }) });
});

afterAll(() => broker.close());

type Method = (typeof SessionBroker.methods)[number];

/** Calls with nothing in the request; what is judged before the request is all that counts. */
async function call(method: Method, token: string): Promise<string> {
  const client = broker.client("connect-h2", token) as unknown as Record<
    string,
    (request: unknown) => unknown
  >;
  const request = method.methodKind === "client_streaming" ? (async function* () {})() : {};
  const answer = client[method.localName]?.(request) as Promise<unknown> | AsyncIterable<unknown>;
  return reasonOf(Symbol.asyncIterator in answer ? firstOf(answer) : answer);
}

async function firstOf(answers: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of answers) return;
}

describe.each(SessionBroker.methods.map((method) => [method.name, method] as const))("%s", (_, method) => {
  it("says which role it needs", () => {
    expect(hasOption(method, required_role)).toBe(true);
    expect(roles).toContain(getOption(method, required_role));
  });

  it("is for that role and those above it", async () => {
    const needed = getOption(method, required_role);
    for (const role of roles) {
      const reason = await call(method, tokenOf(role));
      const refused = reason === "PermissionDenied ROLE_TOO_LOW";
      expect([Role[role], refused]).toEqual([Role[role], !included.get(role)?.includes(needed)]);
      expect(reason).not.toContain("UNAUTHENTICATED");
    }
  });

  it("is for nobody without a token", async () => {
    for (const token of ["", "wrong"]) {
      expect(await call(method, token)).toBe("Unauthenticated UNAUTHENTICATED");
    }
  });
});

it("health and reflection ask for no token", async () => {
  const transport = broker.transport("connect-h2", "");
  expect(await reasonOf(createClient(Health, transport).check({}))).toBe("none");
  const request = (async function* () {
    yield { messageRequest: { case: "listServices" as const, value: "" } };
  })();
  expect(await reasonOf(createClient(ServerReflection, transport).serverReflectionInfo(request))).toBe(
    "none",
  );
});
