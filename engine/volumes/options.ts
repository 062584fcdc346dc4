import { existsSync } from 'node:fs';
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { failedPrecondition, invalidArgument } from '../../base/index.ts';

const NAME = /^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/;
const NAME_MAX_LENGTH = 255;

/** @throws ShoalError InvalidArgument in Docker's words. */
export function checkVolumeName(name: string): void {
  if (name.length === 1) {
    throw invalidArgument('volume name is too short, names should be at least two alphanumeric characters');
  }
  if (!NAME.test(name) || name.length > NAME_MAX_LENGTH) {
    throw invalidArgument(
      `${JSON.stringify(name)} includes invalid characters for a local volume name, only "[a-zA-Z0-9][a-zA-Z0-9_.-]" ` +
        'are allowed. If you intended to pass a host directory, use absolute path',
    );
  }
}

/** Docker's words first; then the way out. */
const NO_QUOTA =
  'quota size requested but no quota support: volumes are not limited by project quotas; ' +
  'a volume of limited size is made with type=tmpfs, device=tmpfs and o=size=…';
/** File systems whose mounts need a program of their own, and the package that has it. */
const HELPERS: Readonly<Record<string, string>> = { nfs: 'nfs-common', nfs4: 'nfs-common', cifs: 'cifs-utils' };
const HELPER_DIRECTORIES = ['/sbin', '/usr/sbin', '/usr/local/sbin'];
const KNOWN = new Set(['type', 'o', 'device']);
const NEEDS: Readonly<Record<string, readonly string[]>> = {
  device: ['type'],
  type: ['device'],
  o: ['device', 'type'],
};

/** Checks the options of the local driver (docker volume create -o). @throws ShoalError InvalidArgument */
export function checkVolumeOptions(options: Readonly<Record<string, string>>): void {
  for (const key of Object.keys(options)) {
    if (key === 'size') throw invalidArgument(NO_QUOTA);
    if (!KNOWN.has(key)) throw invalidArgument(`invalid option: ${JSON.stringify(key)}`);
    for (const other of NEEDS[key] ?? []) {
      if ((options[other] ?? '') === '') throw invalidArgument(`missing required option: ${JSON.stringify(other)}`);
    }
  }
}

/** Arguments of mount(8) for a volume with options; a host name in `addr=` is resolved, which the kernel cannot do. */
export async function mountArguments(options: Readonly<Record<string, string>>, target: string): Promise<string[]> {
  const type = options['type'] ?? 'none';
  const flags: string[] = [];
  for (const flag of (options['o'] ?? '').split(',').filter((part) => part !== '')) {
    const host = /^addr=(.+)$/.exec(flag)?.[1];
    const resolved = host === undefined || isIP(host) !== 0 ? undefined : (await lookup(host)).address;
    flags.push(resolved === undefined ? flag : `addr=${resolved}`);
  }
  const helper = HELPERS[type];
  const missing = helper !== undefined && !HELPER_DIRECTORIES.some((path) => existsSync(`${path}/mount.${type}`));
  if (missing && !flags.some((flag) => flag.startsWith('addr='))) {
    throw failedPrecondition(
      `mount.${type} is not installed on this host: install ${helper}, or name the server by addr=`,
    );
  }
  // Without the helper of nfs-common, the kernel itself takes a mount that names the address.
  const plain = flags.some((flag) => flag.startsWith('addr=')) ? ['-i'] : [];
  const chosen = flags.length === 0 ? [] : ['-o', flags.join(',')];
  return [...plain, '-t', type, ...chosen, options['device'] ?? type, target];
}
