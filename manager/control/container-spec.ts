import { invalidArgument, ShoalError } from '../../base/index.ts';
import { durationToNs, Mount_Type, type ContainerSpec, type Duration, type HealthConfig } from '../../proto/index.ts';
import type { Mount } from '../../proto/index.ts';

/** Shortest interval, timeout or start period of a health check, ns. */
const HEALTH_DURATION_MIN_NS = 1e6;
/** Secrets or configs of one service. */
const REFERENCES_MAX = 1000;

/** An image reference: no white space, and a path in lower case with an optional tag and digest. */
const IMAGE = /^[\w.:[\]-]+(?:\/[\w.-]+)*(?::[\w][\w.-]{0,127})?(?:@[A-Za-z][\w+.-]*:[0-9a-fA-F]{32,})?$/;

function validateImage(image: string): void {
  if (image === '') throw invalidArgument('ContainerSpec: image reference must be provided');
  const path = image.split('@')[0] ?? '';
  const repository = path.includes('/') ? path.slice(path.indexOf('/') + 1) : path;
  const bare = repository.split(':')[0] ?? '';
  if (!IMAGE.test(image) || bare !== bare.toLowerCase()) {
    throw invalidArgument(`ContainerSpec: "${image}" is not a valid repository/tag`);
  }
}

function isTemplate(text: string): boolean {
  return text.includes('{{');
}

function validateMount(mount: Mount): void {
  const { source, target, type } = mount;
  if (target === '') throw invalidArgument('ContainerSpec: the target of a mount must be provided');
  if (!target.startsWith('/') && !isTemplate(target)) {
    throw invalidArgument(`invalid mount path: '${target}' mount path must be absolute`);
  }
  if (target === '/') throw invalidArgument(`invalid mount target: destination can't be '/'`);
  switch (type) {
    case Mount_Type.BIND:
      if (!source.startsWith('/') && !isTemplate(source)) {
        throw invalidArgument(`invalid bind mount source, must be an absolute path: ${source}`);
      }
      return;
    case Mount_Type.TMPFS:
      if (source !== '') throw invalidArgument('invalid tmpfs source, source must be empty');
      return;
    case Mount_Type.VOLUME:
      if (source.startsWith('/'))
        throw invalidArgument(`invalid volume mount source, must not be an absolute path: ${source}`);
      return;
    case Mount_Type.NPIPE:
      throw invalidArgument('npipe mounts exist on Windows only');
    case Mount_Type.CLUSTER:
      throw new ShoalError('Unimplemented', 'cluster volumes are not supported: use a mount of type volume');
  }
}

function validateMounts(mounts: readonly Mount[]): void {
  const seen = new Set<string>();
  for (const mount of mounts) {
    if (seen.has(mount.target)) throw invalidArgument(`ContainerSpec: duplicate mount point: ${mount.target}`);
    seen.add(mount.target);
    validateMount(mount);
  }
}

function validateHealth(health: HealthConfig | null): void {
  if (health === null) return;
  const durations: [string, Duration | null][] = [
    ['Interval', health.interval],
    ['Timeout', health.timeout],
    ['StartPeriod', health.start_period],
    ['StartInterval', health.start_interval],
  ];
  for (const [what, duration] of durations) {
    const ns = durationToNs(duration) ?? 0;
    if (ns !== 0 && ns < HEALTH_DURATION_MIN_NS) {
      throw invalidArgument(`ContainerSpec: ${what} in HealthConfig cannot be less than 1ms`);
    }
  }
  if (health.retries < 0) throw invalidArgument('ContainerSpec: Retries in HealthConfig cannot be negative');
}

/** Secrets are always files, and no two may stand at the same place. */
function validateSecretReferences(container: ContainerSpec): void {
  if (container.secrets.length > REFERENCES_MAX) throw invalidArgument(`more than ${REFERENCES_MAX} secrets`);
  const targets = new Map<string, string>();
  for (const reference of container.secrets) {
    if (reference.secret_id === '' || reference.secret_name === '') throw invalidArgument('malformed secret reference');
    const target = reference.file?.name ?? '';
    if (target === '') throw invalidArgument('malformed file target reference, no target path provided');
    const other = targets.get(target);
    if (other !== undefined) {
      throw invalidArgument(
        `secret references '${other}' and '${reference.secret_name}' have a conflicting target: '${target}'`,
      );
    }
    targets.set(target, reference.secret_name);
  }
}

function validateConfigReferences(container: ContainerSpec): void {
  if (container.configs.length > REFERENCES_MAX) throw invalidArgument(`more than ${REFERENCES_MAX} configs`);
  const targets = new Map<string, string>();
  for (const reference of container.configs) {
    if (reference.config_id === '' || reference.config_name === '') throw invalidArgument('malformed config reference');
    if (reference.runtime !== undefined) continue;
    const target = reference.file?.name ?? '';
    if (target === '') throw invalidArgument('malformed file target reference, no target path provided');
    const other = targets.get(target);
    if (other !== undefined) {
      throw invalidArgument(
        `config references '${other}' and '${reference.config_name}' have a conflicting target: '${target}'`,
      );
    }
    targets.set(target, reference.config_name);
  }
}

/** What can be said of a container without looking at the cluster. @throws ShoalError in SwarmKit's words. */
export function validateContainer(container: ContainerSpec): void {
  validateImage(container.image);
  validateMounts(container.mounts);
  validateHealth(container.healthcheck);
  if ((durationToNs(container.stop_grace_period) ?? 0) < 0) {
    throw invalidArgument('ContainerSpec: stop-grace-period cannot be negative');
  }
  validateSecretReferences(container);
  validateConfigReferences(container);
}
