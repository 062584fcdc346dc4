import { directSpawner, runChecked, type Spawner } from '../base/index.ts';
import type { LabNames } from './names.ts';

const spawner: Spawner = directSpawner;

/** Runs ip(8) commands in one batch. */
async function ip(lines: readonly string[]): Promise<void> {
  await runChecked(spawner, { file: 'ip', args: ['-batch', '-'], stdin: `${lines.join('\n')}\n` });
}

/** Whether a link of this name exists. */
export async function linkExists(name: string): Promise<boolean> {
  return (await spawner.run({ file: 'ip', args: ['link', 'show', name] })).code === 0;
}

/** The switch that joins the hosts; it has the first address of the subnet, so that this machine reaches every host. */
export async function makeBridge(names: LabNames, address: string, prefix: number): Promise<void> {
  if (await linkExists(names.bridge)) return;
  await ip([
    // An address of its own: else it takes the lowest of its ports', and changes when ports come and go.
    `link add ${names.bridge} address ${names.hostMac('switch')} type bridge`,
    `addr add ${address}/${prefix} dev ${names.bridge}`,
    `link set ${names.bridge} up`,
  ]);
}

export async function removeBridge(names: LabNames): Promise<void> {
  const links = await runChecked(spawner, { file: 'ip', args: ['-o', 'link', 'show'] });
  const ours = [...links.matchAll(/^\d+: ([^:@\s]+)/gm)]
    .map((match) => match[1] ?? '')
    .filter((link) => link === names.bridge || link.startsWith(`sl${names.tag}`));
  // A host that has just been killed takes its own end of the link away at the same moment.
  for (const link of ours) await spawner.run({ file: 'ip', args: ['link', 'del', link] });
}

export interface HostLink {
  host: string;
  /** Process that holds the host's namespaces. */
  holder: number;
  address: string;
  prefix: number;
  gateway: string;
}

/** Gives a host its eth0 on the switch. */
export async function linkHost(names: LabNames, link: HostLink): Promise<void> {
  const outside = names.hostLink(link.host);
  await spawner.run({ file: 'ip', args: ['link', 'del', outside] });
  await ip([
    `link add ${outside} type veth peer name eth0 address ${names.hostMac(link.host)} netns ${link.holder}`,
    `link set ${outside} master ${names.bridge} up`,
  ]);
  await inHost(
    link.holder,
    'ip',
    ['-batch', '-'],
    [
      'link set lo up',
      `addr add ${link.address}/${link.prefix} dev eth0`,
      'link set eth0 up',
      `route add default via ${link.gateway}`,
    ].join('\n'),
  );
}

/** Runs a program in the namespaces of a host. */
export async function inHost(holder: number, file: string, args: readonly string[], stdin = ''): Promise<string> {
  return await runChecked(spawner, {
    file: 'nsenter',
    args: ['--target', String(holder), '--net', '--mount', '--uts', '--', file, ...args],
    stdin: `${stdin}\n`,
  });
}

const TABLE = 'inet shoal_lab';

/**
 * Cuts a host off from `others` (addresses): nothing leaves it towards them and, unless `oneway`, nothing of theirs
 * comes in. The machine itself still reaches the host.
 */
export async function cutHost(holder: number, others: readonly string[], oneway: boolean): Promise<void> {
  const set = `{ ${others.join(', ')} }`;
  const rules = [
    `table ${TABLE}`,
    `delete table ${TABLE}`,
    `table ${TABLE} {`,
    `  chain out { type filter hook output priority -300; ip daddr ${set} drop; }`,
    `  chain through { type filter hook forward priority -300; ip daddr ${set} drop; }`,
    oneway ? '' : `  chain in { type filter hook input priority -300; ip saddr ${set} drop; }`,
    '}',
  ];
  await inHost(holder, 'nft', ['-f', '-'], rules.join('\n'));
}

export async function healHost(holder: number): Promise<void> {
  await inHost(holder, 'nft', ['-f', '-'], `table ${TABLE}\ndelete table ${TABLE}`);
}
