import { lstatSync } from 'node:fs';
import { failedPrecondition } from '../../base/index.ts';
import { deviceNumbers, hostDevices } from '../runtime/devices.ts';
import { withLockedFlags } from '../runtime/mounts.ts';
import type { OciDevice, OciIdMapping, OciMount, OciSpec } from '../runtime/oci.ts';
import type { IdMapping, IdRange } from '../types.ts';

type Node = Pick<OciDevice, 'type' | 'major' | 'minor'>;

const same = (a: Node, b: Node): boolean => a.type === b.type && a.major === b.major && a.minor === b.minor;

/** Whether the host has this very node at the same path, where runtimes look for it. */
function atItsPath(device: OciDevice): boolean {
  const info = lstatSync(device.path, { throwIfNoEntry: false });
  if (info === undefined) return false;
  const type = info.isBlockDevice() ? 'b' : info.isCharacterDevice() ? 'c' : 'p';
  return same(device, { type, ...deviceNumbers(info.rdev) });
}

/**
 * Devices of a container in a user namespace. It can make no nodes, so runtimes bind the host's node of the same path;
 * where that is another one or none, a mount shows the node from where the host has it.
 * @throws ShoalError FailedPrecondition when the host has no node of a device
 */
function bindDevices(devices: readonly OciDevice[]): { devices: OciDevice[]; mounts: OciMount[] } {
  const elsewhere = devices.filter((device) => !atItsPath(device));
  if (elsewhere.length === 0) return { devices: [...devices], mounts: [] };
  const there = hostDevices();
  const mounts = elsewhere.map((device): OciMount => {
    const source = there.find((node) => same(node, device))?.path;
    if (source !== undefined) return { destination: device.path, type: 'bind', source, options: ['bind', 'rprivate'] };
    const what = `${device.type} ${device.major}:${device.minor}`;
    throw failedPrecondition(
      `the device ${device.path} (${what}) has no node in /dev of the host, and a container in a user namespace cannot ` +
        'make one: make the node on the host, or use --userns=host',
    );
  });
  return { devices: devices.filter((device) => !elsewhere.includes(device)), mounts };
}

const ociRanges = (ranges: readonly IdRange[]): OciIdMapping[] =>
  ranges.map(({ inside, outside, count }) => ({ containerID: inside, hostID: outside, size: count }));

/**
 * Makes a configuration one for a user namespace: its mapping, binds with the flags that they must keep, no device nodes.
 * @throws ShoalError FailedPrecondition for a device that cannot be shown
 */
export function fitUserNamespace(spec: OciSpec, { uids, gids }: IdMapping): void {
  spec.linux.uidMappings = ociRanges(uids);
  spec.linux.gidMappings = ociRanges(gids);
  const { devices, mounts } = bindDevices(spec.linux.devices ?? []);
  if (devices.length > 0) spec.linux.devices = devices;
  else delete spec.linux.devices;
  spec.mounts = withLockedFlags([...spec.mounts, ...mounts]);
}
