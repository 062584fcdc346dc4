import { lstatSync } from 'node:fs';
import { failedPrecondition, invalidArgument } from '../../base/index.ts';
import type { DeviceRequest } from '../types.ts';
import type { CdiDeviceNode, CdiEdits, CdiRegistry, CdiSpec } from './cdi-files.ts';
import { allowDevice, deviceNumbers } from './devices.ts';
import type { OciDevice, OciHook, OciMount, OciSpec } from './oci.ts';

/** Kinds that `--gpus` looks for, the first that is there. */
const GPU_KINDS = ['nvidia.com/gpu', 'amd.com/gpu', 'intel.com/gpu'];

const listed = (lists: DeviceRequest['capabilities']): string =>
  `[${lists.map((words) => `[${words.join(' ')}]`).join(' ')}]`;

/** CDI names that a request of devices stands for. @throws ShoalError InvalidArgument in Docker's words */
export function cdiNames(request: DeviceRequest, registry: CdiRegistry): string[] {
  if (request.driver === 'cdi') return [...request.deviceIds];
  const gpu = request.capabilities.some((words) => words.includes('gpu'));
  const vendors = GPU_KINDS.filter((kind) => request.driver === '' || kind.startsWith(`${request.driver}.`));
  const kind = vendors.find((one) => [...registry.devices.keys()].some((name) => name.startsWith(`${one}=`)));
  if (!gpu || kind === undefined) {
    const driver = JSON.stringify(request.driver);
    const words = `could not select device driver ${driver} with capabilities: ${listed(request.capabilities)}`;
    throw invalidArgument(words);
  }
  if (request.deviceIds.length > 0) return request.deviceIds.map((id) => `${kind}=${id}`);
  if (request.count < 0) return [`${kind}=all`];
  return Array.from({ length: request.count }, (_, index) => `${kind}=${index}`);
}

/**
 * Puts into a container's configuration what its devices add.
 * @throws ShoalError InvalidArgument naming the devices that no file describes.
 */
export function applyCdi(spec: OciSpec, requests: readonly DeviceRequest[], registry: CdiRegistry): void {
  if (requests.length === 0) return;
  const names = [...new Set(requests.flatMap((request) => cdiNames(request, registry)))];
  const missing = names.filter((name) => !registry.devices.has(name));
  if (missing.length > 0) {
    const damaged = registry.problems.length === 0 ? '' : `; damaged files: ${registry.problems.join('; ')}`;
    throw invalidArgument(`CDI device injection failed: unresolvable CDI devices ${missing.join(', ')}${damaged}`);
  }
  const specs = new Set<CdiSpec>();
  for (const name of names) {
    const device = registry.devices.get(name);
    if (device === undefined) continue;
    if (!specs.has(device.spec)) applyEdits(spec, device.spec.containerEdits ?? {});
    specs.add(device.spec);
    applyEdits(spec, device.edits);
  }
}

function applyEdits(spec: OciSpec, edits: CdiEdits): void {
  for (const entry of edits.env ?? []) {
    const name = `${entry.split('=')[0] ?? ''}=`;
    spec.process.env = [...spec.process.env.filter((present) => !present.startsWith(name)), entry];
  }
  const devices = (edits.deviceNodes ?? []).map((node) => ({ node, device: nodeOf(node) }));
  spec.linux.devices = [...(spec.linux.devices ?? []), ...devices.map(({ device }) => device)];
  for (const { node, device } of devices) {
    spec.linux.resources.devices.push(allowDevice(device, node.permissions ?? 'rwm'));
  }
  spec.mounts.push(...(edits.mounts ?? []).map(mountOf));
  for (const { hookName, path, args, env, timeout } of edits.hooks ?? []) {
    const hook: OciHook = { path, ...(args && { args }), ...(env && { env }), ...(timeout && { timeout }) };
    spec.hooks = { ...spec.hooks, [hookName]: [...(spec.hooks?.[hookName] ?? []), hook] };
  }
  const groups = [...(spec.process.user.additionalGids ?? []), ...(edits.additionalGids ?? [])];
  spec.process.user.additionalGids = [...new Set(groups)];
}

/** A device node; type and numbers that are not given are those of the host's node. */
function nodeOf(node: CdiDeviceNode): OciDevice {
  const more = {
    ...(node.fileMode === undefined ? {} : { fileMode: node.fileMode }),
    ...(node.uid === undefined ? {} : { uid: node.uid }),
    ...(node.gid === undefined ? {} : { gid: node.gid }),
  };
  const known = node.type === 'b' || node.type === 'c' || node.type === 'p' ? node.type : undefined;
  if (known !== undefined && (known === 'p' || (node.major ?? 0) > 0)) {
    return { path: node.path, type: known, major: node.major ?? 0, minor: node.minor ?? 0, ...more };
  }
  const from = node.hostPath ?? node.path;
  const info = lstatSync(from, { throwIfNoEntry: false });
  if (info === undefined || (!info.isBlockDevice() && !info.isCharacterDevice())) {
    throw failedPrecondition(`CDI device injection failed: ${from} is no device node of this host`);
  }
  const own = { fileMode: info.mode & 0o777, uid: info.uid, gid: info.gid };
  return { path: node.path, type: info.isBlockDevice() ? 'b' : 'c', ...deviceNumbers(info.rdev), ...own, ...more };
}

function mountOf({ hostPath, containerPath, type, options = [] }: NonNullable<CdiEdits['mounts']>[number]): OciMount {
  const bound = options.includes('bind') || options.includes('rbind') || (type !== undefined && type !== 'bind');
  const all = bound ? options : ['rbind', ...options];
  return { destination: containerPath, source: hostPath, type: type ?? 'bind', options: all };
}
