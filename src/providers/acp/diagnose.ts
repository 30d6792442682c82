/** Whether an agent of the Agent Client Protocol can work here: it is found, and says that it speaks the protocol. */
import { tmpdir } from "node:os";
import type { ChildVariables } from "../cli-diagnosis.js";
import type { Diagnosis } from "../diagnosis.js";
import { locateExecutable } from "../executables.js";
import { asString } from "../json.js";
import { startChild } from "../process.js";
import type { RunAs } from "../run-as.js";
import { AcpAgent } from "./agent.js";
import { lastLine } from "./failures.js";
import { initialize } from "./open.js";

const timeoutMs = 15_000;

/**
 * Begins no conversation, so that the login stays unknown.
 *
 * @param environment what the agent is given
 */
export async function diagnoseAcp(
  [executable, ...args]: readonly [string, ...string[]],
  environment: ChildVariables,
  runAs?: RunAs,
): Promise<Diagnosis> {
  const found = locateExecutable(executable, environment.PATH);
  if (found === undefined) {
    return {
      usable: false,
      problem: `There is no ${executable}.`,
      fix: "Install it, or name another one in command.",
    };
  }
  const child = await startChild({
    executable: found,
    args,
    cwd: tmpdir(),
    runAs,
    environment,
    input: "",
    keepInputOpen: true,
    silenceMs: timeoutMs,
  });
  const agent = await AcpAgent.over(child);
  try {
    const about = await initialize(agent);
    const version = [about.name, about.version].flatMap((each) => asString(each) ?? []).join(" ");
    return { usable: true, found, ...(version === "" ? {} : { version }), login: { state: "unknown" } };
  } catch (error) {
    // Its last words.
    await agent.end();
    const said = error instanceof Error ? error.message : String(error);
    return {
      usable: false,
      found,
      problem: `It did not answer in the Agent Client Protocol (${said}).${lastLine(child.errorOutput())}`,
      fix: "Correct command: the agent has to speak the protocol on its standard input and output, as with gemini --acp.",
    };
  } finally {
    await agent.end();
  }
}
