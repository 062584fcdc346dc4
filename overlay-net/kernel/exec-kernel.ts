import { ProgramFailed, runChecked, unreachable, type Spawner } from '../../base/index.ts';
import { addressBits, familyOf, type Family } from '../ip.ts';
import { dropNamespace, isNamespace } from './namespace.ts';
import { nftError } from './nftables.ts';
import { quietPort, type Kernel, type NamespaceState, type Op } from './ops.ts';

/** Which program runs an op (`ip6` is `ip -6`), and with which line of its batch (`write`: which file gets what). */
export interface Line {
  program: 'ip' | 'ip6' | 'bridge' | 'write';
  text: string;
  /** The line may fail because its aim is reached already. */
  lenient: boolean;
}

/** Ops as lines for `ip -batch` and `bridge -batch` (ip(8), bridge(8)). */
export function toLines(op: Op): Line[] {
  const line = (text: string, lenient = false): Line => ({ program: 'ip', text, lenient });
  switch (op.kind) {
    case 'bridge': {
      const options = `${op.mac === undefined ? '' : ` address ${op.mac}`}${op.mtu === undefined ? '' : ` mtu ${op.mtu}`}`;
      return [
        line(`link add name ${op.name}${options} type bridge forward_delay 0 mcast_snooping 0`, true),
        line(`link set dev ${op.name} up`),
      ];
    }
    case 'veth': {
      const mac = op.peer.mac === undefined ? '' : ` address ${op.peer.mac}`;
      const peer = `peer name ${op.peer.name} mtu ${op.mtu}${mac} netns ${op.peer.namespace}`;
      const link: Op = { kind: 'link', name: op.name, up: true };
      return [
        line(`link add name ${op.name} mtu ${op.mtu} type veth ${peer}`, true),
        ...(op.master === undefined ? [] : toLines(quietPort(op.name))),
        ...toLines({
          ...link,
          ...(op.master && { master: op.master }),
          ...(op.isolated && { isolated: true }),
          ...(op.hairpin && { hairpin: true }),
        }),
      ];
    }
    case 'vxlan': {
      const mac = op.mac === undefined ? '' : ` address ${op.mac}`;
      const proxy = op.proxy ? ' proxy' : '';
      const tunnel = `id ${op.vni} local ${op.local} dstport ${op.port} nolearning${proxy}`;
      return [line(`link add name ${op.name} mtu ${op.mtu}${mac} netns ${op.namespace} type vxlan ${tunnel}`)];
    }
    case 'macvlan': {
      const mac = op.mac === undefined ? '' : ` address ${op.mac}`;
      const born = `name ${op.name} link ${op.parent}${mac} netns ${op.namespace}`;
      return [line(`link add ${born} type macvlan mode bridge`)];
    }
    case 'link':
      return linkLines(op);
    case 'link-del':
      return [line(`link del dev ${op.name}`, true)];
    case 'addr':
      return [line(`addr ${op.del ? 'del' : 'replace'} ${op.address} dev ${op.dev}${noDad(op)}`, op.del)];
    case 'route': {
      const via = `${op.via === undefined ? '' : ` via ${op.via}`} dev ${op.dev}${op.onlink ? ' onlink' : ''}`;
      const table = `${op.table === undefined ? '' : ` table ${op.table}`}${op.metric === undefined ? '' : ` metric ${op.metric}`}`;
      return [line(`route ${op.del ? 'del' : 'replace'} ${op.local ? 'local ' : ''}${op.to}${via}${table}`, op.del)];
    }
    case 'rule': {
      const rule = `fwmark ${op.mark} lookup ${op.table} priority ${op.priority}`;
      const program = op.family === 6 ? 'ip6' : 'ip';
      return [{ program, text: `rule ${op.del ? 'del' : 'add'} ${rule}`, lenient: true }];
    }
    case 'neigh':
      return [
        line(
          `neigh ${op.del ? 'del' : 'replace'} ${op.ip} lladdr ${op.mac} dev ${op.dev}${op.del ? '' : ' nud permanent'}`,
          op.del,
        ),
      ];
    case 'fdb':
      return [fdbLine(op)];
    case 'sysctl':
      return [{ program: 'write', text: `${op.path} ${op.value}`, lenient: true }];
    default:
      return unreachable(op);
  }
}

/** No duplicates are looked for: managers give each address once, and a tentative address cannot be used. */
function noDad(op: Extract<Op, { kind: 'addr' }>): string {
  return familyOf(op.address) === 6 && op.del !== true ? ' nodad' : '';
}

function linkLines(op: Extract<Op, { kind: 'link' }>): Line[] {
  const words: string[] = [];
  if (op.mtu !== undefined) words.push(`mtu ${op.mtu}`);
  if (op.mac !== undefined) words.push(`address ${op.mac}`);
  if (op.master !== undefined) words.push(`master ${op.master}`);
  if (op.up !== undefined) words.push(op.up ? 'up' : 'down');
  const lines: Line[] = [];
  if (words.length > 0)
    lines.push({ program: 'ip', text: `link set dev ${op.name} ${words.join(' ')}`, lenient: false });
  for (const [option, on] of [
    ['isolated', op.isolated],
    ['hairpin', op.hairpin],
  ] as const) {
    if (on === undefined) continue;
    const text = `link set dev ${op.name} type bridge_slave ${option} ${on ? 'on' : 'off'}`;
    lines.push({ program: 'ip', text, lenient: false });
  }
  return lines;
}

function fdbLine(op: Extract<Op, { kind: 'fdb' }>): Line {
  const to = op.to === undefined ? '' : ` dst ${op.to}`;
  const where = `${op.self ? ' self' : ''}${op.master ? ' master' : ''}`;
  const state = op.del ? '' : op.master ? ' static' : ' permanent';
  const text = `fdb ${op.del ? 'del' : 'replace'} ${op.mac} dev ${op.dev}${to}${where}${state}`;
  return { program: 'bridge', text, lenient: op.del ?? false };
}

function within(namespace: string | null, file: string, args: string[]): { file: string; args: string[] } {
  return namespace === null ? { file, args } : { file: 'nsenter', args: [`--net=${namespace}`, file, ...args] };
}

/** The kernel through programs: one process for each run of like lines. */
export function createExecKernel(spawner: Spawner): Kernel {
  return {
    async createNamespace(path, existing) {
      if (isNamespace(path)) return;
      await runChecked(spawner, { file: 'sh', args: ['-c', 'mkdir -p "$(dirname "$0")" && : >"$0"', path] });
      if (existing === undefined) await runChecked(spawner, { file: 'unshare', args: [`--net=${path}`, 'true'] });
      else await runChecked(spawner, { file: 'mount', args: ['--bind', existing, path] });
    },
    removeNamespace: dropNamespace,
    apply: (namespace, ops) => applyLines(spawner, namespace, ops.flatMap(toLines)),
    async nft(namespace, text) {
      const result = await spawner.run({ ...within(namespace, 'nft', ['-f', '-']), stdin: text });
      if (result.code !== 0) throw nftError(result.stderr.toString('utf8'));
      return result.stdout.toString('utf8');
    },
    state: (namespace) => readByPrograms(spawner, namespace),
    async forgetFlows(namespace, targets) {
      let count = 0;
      for (const target of targets) {
        const family = target.includes(':') ? 'ipv6' : 'ipv4';
        const args = ['-D', '-f', family, '-p', 'udp', '--dst-nat', '--reply-src', target];
        const result = await spawner.run(within(namespace, 'conntrack', args));
        // With none to delete, the program fails.
        count += Number(/(\d+) flow entries have been deleted/.exec(result.stderr.toString('utf8'))?.[1] ?? 0);
      }
      return count;
    },
    async flowTargets(namespace) {
      const found = new Set<string>();
      for (const family of ['ipv4', 'ipv6']) {
        const args = ['-L', '-f', family, '-p', 'udp', '--dst-nat'];
        const result = await spawner.run(within(namespace, 'conntrack', args));
        for (const [, source] of result.stdout.toString('utf8').matchAll(/src=\S+ .*? src=(\S+) /g)) {
          if (source !== undefined) found.add(source);
        }
      }
      return found;
    },
  };
}

async function applyLines(spawner: Spawner, namespace: string | null, lines: readonly Line[]): Promise<void> {
  for (let at = 0; at < lines.length;) {
    const first = lines[at] as Line;
    let end = at + 1;
    while (end < lines.length && lines[end]?.program === first.program && lines[end]?.lenient === first.lenient) end++;
    await runLines(spawner, namespace, lines.slice(at, end), first);
    at = end;
  }
}

async function runLines(spawner: Spawner, namespace: string | null, lines: readonly Line[], kind: Line): Promise<void> {
  if (kind.program === 'write') {
    const script = lines.map((line) => line.text.split(' ')).map(([path, value]) => `echo ${value} >/proc/sys/${path}`);
    await spawner.run(within(namespace, 'sh', ['-c', script.join('; ')]));
    return;
  }
  const args = [...(kind.lenient ? ['-force'] : []), '-batch', '-'];
  const [file, options] = kind.program === 'ip6' ? ['ip', ['-6']] : [kind.program, []];
  const request = {
    ...within(namespace, file, [...options, ...args]),
    stdin: lines.map((line) => `${line.text}\n`).join(''),
  };
  const result = await spawner.run(request);
  if (result.code !== 0 && !kind.lenient) throw new ProgramFailed(request, result);
}

interface JsonLink {
  ifname: string;
  ifindex: number;
  mtu: number;
  flags: string[];
  address?: string;
  master?: string;
  addr_info: { family: string; local: string; prefixlen: number }[];
}

type Read = <T>(file: string, args: string[]) => Promise<T[]>;

async function readByPrograms(spawner: Spawner, namespace: string | null): Promise<NamespaceState> {
  const read = async <T>(file: string, args: string[]): Promise<T[]> => {
    const text = await runChecked(spawner, within(namespace, file, args));
    return text.trim() === '' ? [] : (JSON.parse(text) as T[]);
  };
  const links = await read<JsonLink>('ip', ['-j', '-N', 'addr', 'show']);
  const indexOf = new Map(links.map((link) => [link.ifname, link.ifindex]));
  const at = (name: string | undefined): number => indexOf.get(name ?? '') ?? 0;
  const families = [await readFamily(read, at, 4), await readFamily(read, at, 6)];
  type Forward = { mac: string; ifname: string; dst?: string; flags: string[]; master?: string; state: string };
  const fdb = await read<Forward>('bridge', ['-j', 'fdb', 'show']);
  return {
    links: links.map(({ ifname, ifindex, mtu, flags, address, master }) => ({
      name: ifname,
      index: ifindex,
      mtu,
      up: flags.includes('UP'),
      master: master ?? '',
      ...(address === undefined ? {} : { mac: address }),
    })),
    addresses: links.flatMap((link) =>
      link.addr_info
        .filter((info) => info.family === 'inet' || info.family === 'inet6')
        .map((info) => ({ dev: link.ifindex, address: `${info.local}/${info.prefixlen}` })),
    ),
    routes: families.flatMap(({ routes }) => routes),
    neighbours: families.flatMap(({ neighbours }) => neighbours),
    fdb: fdb
      .filter((entry) => entry.state === 'permanent' || entry.state === 'static')
      .map((entry) => {
        const master = entry.master !== undefined;
        return { dev: at(entry.ifname), mac: entry.mac, to: entry.dst ?? '', self: !master, master };
      }),
    rules: families.flatMap(({ rules }) => rules),
  };
}

/** Routes, neighbours and rules of one family. */
async function readFamily(
  read: Read,
  at: (name: string | undefined) => number,
  family: Family,
): Promise<Pick<NamespaceState, 'routes' | 'neighbours' | 'rules'>> {
  const flag = `-${family}`;
  type Route = { dst: string; gateway?: string; dev?: string; table?: string };
  const routes = await read<Route>('ip', ['-j', '-N', flag, 'route', 'show', 'table', 'all', 'type', 'unicast']);
  // Of the routes to the host itself, those that the kernel did not make.
  const own = await read<Route>('ip', [
    '-j',
    '-N',
    flag,
    'route',
    'show',
    'table',
    '255',
    'type',
    'local',
    'proto',
    'boot',
  ]);
  routes.push(...own.map((route) => ({ ...route, table: '255' })));
  type Neighbour = { dst: string; lladdr: string; dev: string };
  const neighbours = await read<Neighbour>('ip', ['-j', flag, 'neigh', 'show', 'nud', 'permanent']);
  type Rule = { priority: number; fwmark?: string; table: string };
  const rules = await read<Rule>('ip', ['-j', '-N', flag, 'rule', 'show']);
  const any = family === 6 ? '::/0' : '0.0.0.0/0';
  return {
    routes: routes.map((route) => ({
      to: route.dst === 'default' ? any : route.dst.includes('/') ? route.dst : `${route.dst}/${addressBits(family)}`,
      via: route.gateway ?? '',
      dev: at(route.dev),
      table: Number(route.table ?? 254),
    })),
    neighbours: neighbours.map(({ dst, lladdr, dev }) => ({ dev: at(dev), ip: dst, mac: lladdr })),
    rules: rules.map((rule) => ({
      ...(family === 6 ? { family } : {}),
      mark: Number(rule.fwmark ?? 0),
      table: Number(rule.table),
      priority: rule.priority,
    })),
  };
}
