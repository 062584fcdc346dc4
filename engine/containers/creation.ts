import { invalidArgument, isShoalError, ShoalError } from '../../base/index.ts';
import { checkCgroupParent } from '../runtime/cgroup-driver.ts';
import { verifyLimits } from '../runtime/limits.ts';
import type { Container, ContainerConfig } from '../types.ts';
import { hostRoot } from '../userns/ids.ts';
import { mappingFor } from '../userns/rules.ts';
import { checkPlatform } from './check-options.ts';
import { withHostDefaults, withImage } from './complete.ts';
import { checkConfig, commandLine, wantedMounts, withPorts } from './config.ts';
import { checkNetwork } from './networking.ts';
import type { Parts } from './parts.ts';
import { plannedMounts } from './shown-mounts.ts';
import type { StoredMount } from './store.ts';

/** What a container will be, with its volumes made. */
export interface Planned extends Pick<Container, 'config' | 'imageId' | 'path' | 'args'> {
  mounts: readonly StoredMount[];
  shown: Container['mounts'];
  warnings: string[];
}

/**
 * Checks what was asked for, completes it from image and host, and makes the volumes that are missing.
 * @param mountsOf mounts of another container, by its name or id; undefined when there is none
 * @throws ShoalError in Docker's words
 */
export async function planContainer(
  parts: Parts,
  asked: ContainerConfig,
  mountsOf: (reference: string) => readonly StoredMount[] | undefined,
): Promise<Planned> {
  const image = parts.images.get(asked.image);
  const warnings = checkPlatform(asked, image);
  const merged = withImage(asked, image.config);
  const command = commandLine(merged, {});
  const { limits, warnings: lost } = verifyLimits(asked.resources, parts.sysInfo);
  await parts.runtimes.get(asked.runtime);
  checkCgroupParent(parts.groups, asked.cgroupParent);
  const idMapping = mappingFor(asked, parts.users.remap);
  await checkConfig(asked, parts.defaultUlimits, hostRoot(idMapping));
  checkNetwork(asked, parts);
  const host = { ...parts, runtimeName: parts.runtimes.defaultName };
  const complete = withHostDefaults({ ...withPorts(merged, image.config), resources: limits }, host);
  const dns = asked.dns.length > 0 || asked.network.mode === 'container' ? asked.dns : parts.dns;
  const mounts = await makeVolumes(parts, wantedMounts(merged, takenMounts(asked, mountsOf)));
  return {
    config: { ...complete, dns, ...(idMapping === undefined ? {} : { idMapping }) },
    imageId: image.id,
    ...command,
    mounts,
    shown: plannedMounts(mounts, parts.volumes),
    warnings: [...warnings, ...lost, ...networkWarnings(parts, asked)],
  };
}

function networkWarnings(parts: Parts, { network }: ContainerConfig): string[] {
  const needed = network.mode === 'sandbox' && !parts.sysInfo.ipv4Forwarding;
  return needed ? ['IPv4 forwarding is disabled. Networking will not work.'] : [];
}

/** Mounts of the containers that `--volumes-from` names. What stands in a volume already is not copied again. */
function takenMounts(
  { volumesFrom = [] }: ContainerConfig,
  mountsOf: (reference: string) => readonly StoredMount[] | undefined,
): StoredMount[] {
  return volumesFrom.flatMap((text) => {
    const cut = text.indexOf(':');
    const [reference, mode] = cut < 0 ? [text, 'rw'] : [text.slice(0, cut), text.slice(cut + 1) || 'rw'];
    if (text === '') throw invalidArgument('volumes-from specification cannot be an empty string');
    const words = mode.split(',');
    if (!words.every((word) => /^(ro|rw|z|Z)$/.test(word))) throw invalidArgument(`invalid mode: ${mode}`);
    const readOnly = words.includes('ro');
    const theirs = mountsOf(reference);
    // Not NotFound: a client would take it for the image and pull.
    if (theirs === undefined) throw invalidArgument(`No such container: ${reference}`);
    return theirs
      .filter(({ from }) => from !== 'tmpfs')
      .map(({ from: _from, mode: _mode, anonymous: _anonymous, ...mount }) => ({
        ...mount,
        readOnly: mount.readOnly || readOnly,
        noCopy: true,
        mode: '',
      }));
  });
}

async function makeVolumes(parts: Parts, mounts: readonly StoredMount[]): Promise<StoredMount[]> {
  const made: StoredMount[] = [];
  // First, so that an image that is missing leaves no volumes.
  const found = mounts.map((mount): StoredMount => {
    if (mount.type !== 'image') return mount;
    return { ...mount, readOnly: true, imageId: mount.imageId ?? parts.images.get(mount.source).id };
  });
  for (const mount of found) {
    if (mount.type !== 'volume') {
      made.push(mount);
      continue;
    }
    const anonymous = mount.source === '';
    const volume = await parts.volumes
      .create({
        name: mount.source,
        driver: mount.volumeDriver ?? '',
        labels: { ...mount.volumeLabels },
        options: { ...mount.volumeOptions },
      })
      .catch((error: unknown) => {
        if (!isShoalError(error, 'InvalidArgument', 'NotFound')) throw error;
        // As Docker tells which volume it is about.
        throw new ShoalError(error.code, `create ${mount.source}: ${error.message}`);
      });
    const driver = volume.driver === 'local' ? {} : { volumeDriver: volume.driver };
    made.push({ ...mount, ...driver, source: volume.name, ...(anonymous ? { anonymous } : {}) });
  }
  return made;
}
