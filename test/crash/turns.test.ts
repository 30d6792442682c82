/**
 * A broker that is killed again and again while clients use it. Each failure
 * names its seed; SESSION_BROKER_CRASH_SEED takes the same decisions again, and
 * SESSION_BROKER_CRASH_KILLS sets how many kills there are.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, it } from "vitest";
import { Random } from "../simulation/scheduler.js";
import { type Protocol, TestBroker } from "../support/broker.js";
import { AgentNotes } from "./agent-notes.js";
import { Gate, LoadClient } from "./clients.js";
import { crashSeed, Killer } from "./kills.js";
import { Ledger } from "./ledger.js";

const kills = Number(process.env.SESSION_BROKER_CRASH_KILLS ?? 30);
const protocols: Protocol[] = ["connect", "connect-h2", "grpc", "grpc-web"];

it.skipIf(process.platform !== "linux")(
  `runs every turn at most once, one at a time, and loses none over ${kills} kills`,
  { timeout: kills * 10_000 + 60_000 },
  async () => {
    const folder = mkdtempSync(join(tmpdir(), "crash-"));
    const notes = new AgentNotes(join(folder, "notes"));
    const config = `providers:${notes.provider}\nlimits:\n  collectDebounce: 0.1s\n`;
    const environment = { SESSION_BROKER_LOG_LEVEL: "error" };
    const broker = await TestBroker.start({ config, environment });
    const random = new Random(crashSeed);
    const deps = { gate: new Gate(), ledger: new Ledger(), scope: "crash" };
    const clients = [...protocols, ...protocols, ...protocols].map((protocol, index) => {
      const token = index % 2 === 0 ? broker.adminToken : broker.token;
      const ownRandom = new Random(random.below(2 ** 31));
      return new LoadClient(deps, `${protocol}-${index}`, broker.client(protocol, token), ownRandom);
    });
    let round = Promise.resolve();
    try {
      const began = performance.now();
      const killer = new Killer(broker, deps.gate, deps.ledger, random);
      const load = Promise.all(clients.map((client) => client.run()));
      while (killer.kills < kills) {
        round = killer.round();
        // A client that finds something wrong ends the test at once.
        await Promise.race([round, load]);
      }
      for (const client of clients) client.stop();
      await load;
      const endings = await deps.ledger.audit(broker.client(), notes);
      await broker.kill("SIGTERM");
      expect(notes.survivors(), "processes that are left").toEqual([]);
      expect(broker.output.filter((line) => line.includes('"level":50'))).toEqual([]);
      const seconds = Math.round((performance.now() - began) / 1000);
      console.log(`seed ${crashSeed}: ${killer.kills} kills in ${seconds} s; turns:`, endings);
      expect(deps.ledger.known.length).toBeGreaterThan(kills);
    } catch (error) {
      throw new Error(`SESSION_BROKER_CRASH_SEED=${crashSeed}: ${String(error)}`, { cause: error });
    } finally {
      for (const client of clients) client.stop();
      deps.gate.open();
      // It would start the broker anew.
      await round.catch(() => {});
      await broker.close();
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
