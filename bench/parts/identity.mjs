// Reserve and ResolveSelection on a store of many sessions, beside plain
// connect-node's empty RPC and beside SQLite behind connect-node.
import { join } from "node:path";
import { contest } from "../contest.mjs";
import { wrk } from "../load.mjs";
import { memoryOf } from "../measure.mjs";
import { loadPackage } from "../peers/packages.mjs";
import { startPeer } from "../peers/program.mjs";
import { emptyOverHttp, lookup, lookups, reserveNew } from "./requests.mjs";

/** The number of clients that the bars are about. */
const barClients = 64;

export async function identity(context) {
  const { servers, report, plan, folder } = context;
  const broker = await servers.broker();
  const connect = await servers.connectNode();
  const sqlite = await startSqlite(folder, plan);
  try {
    for (const connections of plan.clients) {
      const request = emptyOverHttp(connect.http);
      const contestants = [
        { name: "plain connect-node, empty RPC", pid: connect.pid, load: (load) => wrk(request, load) },
        ...Object.entries(lookups).map(([what, each]) => ({
          name: `session-broker, ${what}`,
          pid: broker.pid,
          load: lookup(broker, each),
        })),
        { name: "session-broker, Reserve, new (durable)", pid: broker.pid, load: reserveNew(broker) },
        ...(sqlite === undefined ? [] : sqliteContestants(sqlite)),
      ].map((each) => ({ ...each, warm: connections !== plan.clients[0] }));
      const seconds = connections === barClients ? plan.seconds : plan.sideSeconds;
      const rates = await contest(
        { ...context, plan: { ...plan, seconds } },
        `${plan.rows.toLocaleString("en-US")} sessions`,
        contestants,
        connections,
      );
      if (connections !== barClients) continue;
      const ratio = (name) =>
        rates[contestants.findIndex((each) => each.name === `session-broker, ${name}`)] / rates[0];
      for (const [what, { hasBar = true }] of Object.entries(lookups))
        if (hasBar) report.bar(`${what}, of plain connect-node's empty RPC`, ratio(what), 4);
      const wish = "; the goal is 3";
      report.bar("Reserve, new, of plain connect-node's empty RPC", ratio("Reserve, new (durable)"), 1.5, {
        wish,
      });
    }
    const { own, resident } = memoryOf(broker.pid);
    const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MiB`;
    const sessions = plan.rows.toLocaleString("en-US");
    report.figure(
      `memory of the broker after this, ${sessions} sessions and more, without and with the mapped store`,
      `${mib(own)}, ${mib(resident)}`,
    );
    report.figure(
      "bytes on disk for each session, with an alias and all indexes",
      Math.round(broker.bytes / broker.rows),
    );
  } finally {
    await sqlite?.stop();
  }
}

async function startSqlite(folder, { rows, mayCompile }) {
  if (loadPackage("better-sqlite3", { mayInstall: mayCompile }) === undefined)
    return console.error("better-sqlite3 is not installed: SQLite is skipped");
  const peer = await startPeer("sqlite", [join(folder, "sqlite.db"), `${rows}`]);
  return { ...peer, url: `http://127.0.0.1:${peer.http}`, rows };
}

function sqliteContestants(sqlite) {
  const { pid } = sqlite;
  return [
    {
      name: "SQLite behind connect-node, Reserve, existing",
      pid,
      load: lookup(sqlite, lookups["Reserve, existing"]),
    },
    { name: "SQLite behind connect-node, Reserve, new (durable)", pid, load: reserveNew(sqlite) },
  ];
}
