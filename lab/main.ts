import { parseArgs } from 'node:util';
import { errorMessage, invalidArgument, must } from '../base/index.ts';
import { Lab } from './lab.ts';
import type { HostFacts } from './names.ts';

const HELP = `Usage:  shoal lab COMMAND [--name NAME]

Hosts on this machine: network namespaces joined by a bridge, each with its own daemon.

Commands:
  up          Start hosts and daemons [--managers 3] [--workers 2] [--subnet CIDR] [--swarm] [--daemon-flag FLAG]...
  ls          List the hosts [--json]
  env         Print the export of DOCKER_HOST for a host:  lab env HOST
  exec        Run a command on a host:  lab exec HOST -- CMD [ARG...]
  partition   Cut hosts off from all others:  lab partition HOST... [--oneway]
  heal        End all partitions, or those of the hosts named:  lab heal [HOST...]
  kill        Kill the daemon of a host by SIGKILL; its containers go on
  pause       Stop the daemon of a host by SIGSTOP
  resume      Let a paused daemon go on
  crash       The host vanishes with all its containers; its disk stays
  start       Start a killed daemon or a crashed host again
  registry    Start docker-registry on the lab's switch and print its address
  down        Remove everything of the lab

Options:
  --name NAME   Name of the lab (default "lab")
`;

const OPTIONS = {
  name: { type: 'string', default: 'lab' },
  managers: { type: 'string', default: '3' },
  workers: { type: 'string', default: '2' },
  subnet: { type: 'string', default: '' },
  swarm: { type: 'boolean', default: false },
  json: { type: 'boolean', default: false },
  oneway: { type: 'boolean', default: false },
  'daemon-flag': { type: 'string', multiple: true },
  help: { type: 'boolean', short: 'h', default: false },
} as const;

function printHosts(hosts: readonly HostFacts[], json: boolean): void {
  if (json) {
    console.log(JSON.stringify(hosts));
    return;
  }
  const rows = [
    ['HOST', 'ROLE', 'ADDRESS', 'PID', 'DOCKER_HOST'],
    ...hosts.map((h) => [h.name, h.role, h.address, h.pid === 0 ? '-' : String(h.pid), h.docker_host]),
  ];
  const widths = rows[0]?.map((_none, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0))) ?? [];
  for (const row of rows)
    console.log(
      row
        .map((cell, i) => cell.padEnd((widths[i] ?? 0) + 3))
        .join('')
        .trimEnd(),
    );
}

/** Words before `--` are read as options; what follows it is a command for `exec`. */
function split(argv: readonly string[]): { own: string[]; command: string[] } {
  const at = argv.indexOf('--');
  return at < 0 ? { own: [...argv], command: [] } : { own: argv.slice(0, at), command: argv.slice(at + 1) };
}

async function run(argv: readonly string[]): Promise<number> {
  const { own, command } = split(argv);
  const { values, positionals } = parseArgs({ args: own, options: OPTIONS, allowPositionals: true });
  const [verb, ...rest] = positionals;
  if (values.help || verb === undefined) {
    process.stdout.write(HELP);
    return 0;
  }
  const lab = new Lab(values.name);
  const host = (): string => {
    if (rest[0] === undefined) throw invalidArgument(`name a host: shoal lab ${verb} HOST`);
    return rest[0];
  };
  switch (verb) {
    case 'up': {
      const hosts = await lab.up({
        managers: Number(values.managers),
        workers: Number(values.workers),
        subnet: values.subnet,
        swarm: values.swarm,
        daemonFlags: values['daemon-flag'] ?? [],
      });
      printHosts(hosts, values.json);
      return 0;
    }
    case 'ls':
      printHosts(lab.list(), values.json);
      return 0;
    case 'env':
      console.log(`export DOCKER_HOST=${lab.env(host())}`);
      return 0;
    case 'exec': {
      const words = command.length > 0 ? command : rest.slice(1);
      if (words.length === 0) throw invalidArgument('name a command: shoal lab exec HOST -- CMD [ARG...]');
      return lab.exec(host(), words);
    }
    case 'registry':
      console.log(await lab.registry());
      return 0;
    default:
      await change(lab, verb, rest, values.oneway, host);
      return 0;
  }
}

async function change(
  lab: Lab,
  verb: string,
  rest: readonly string[],
  oneway: boolean,
  host: () => string,
): Promise<void> {
  const verbs: Record<string, () => Promise<void> | void> = {
    partition: () => lab.partition(rest, oneway),
    heal: () => lab.heal(rest.length === 0 ? undefined : rest),
    kill: () => lab.kill(host()),
    pause: () => lab.pause(host()),
    resume: () => lab.resume(host()),
    crash: () => lab.crash(host()),
    start: () => lab.start(host()),
    down: () => lab.down(),
  };
  if (!(verb in verbs)) throw invalidArgument(`unknown command: shoal lab ${verb}\n\n${HELP}`);
  await must(verbs[verb], verb)();
}

try {
  process.exitCode = await run(process.argv.slice(3));
} catch (error) {
  console.error(`shoal lab: ${errorMessage(error)}`);
  process.exitCode = 1;
}
