import type { ContainerUnit } from '../containers/unit.ts';
import { pauseContainer, unpauseContainer } from '../containers/pause.ts';
import { applyChanges, parseRunConfig } from '../images/index.ts';
import type { ContainerConfig, Image, ImageConfig, Images } from '../types.ts';

const NS_PER_MS = 1e6;

/** `docker commit`, as it comes in. */
export interface CommitOptions {
  repository: string;
  tag: string;
  author: string;
  comment: string;
  /** Dockerfile instructions. */
  changes: readonly string[];
  /** Stops the container's processes meanwhile. */
  pause: boolean;
  /** Settings (Docker's names) in place of the container's; what they leave out is the container's. */
  config?: Readonly<Record<string, unknown>>;
}

/** Who can archive a container's changes. */
interface LayerSource {
  layer<T>(
    unit: ContainerUnit,
    signal: AbortSignal | undefined,
    use: (archive: AsyncIterable<Uint8Array>) => Promise<T>,
  ): Promise<T>;
}

const keySet = (keys: readonly string[]): Record<string, object> => Object.fromEntries(keys.map((key) => [key, {}]));
const filled = (list: readonly string[] | undefined): boolean => (list?.length ?? 0) > 0;

function healthOf({ healthCheck }: ContainerConfig): Pick<ImageConfig, 'Healthcheck'> {
  if (healthCheck === undefined) return {};
  const { test, intervalMs, timeoutMs, startPeriodMs, startIntervalMs = 0, retries } = healthCheck;
  const times = {
    Interval: intervalMs,
    Timeout: timeoutMs,
    StartPeriod: startPeriodMs,
    StartInterval: startIntervalMs,
  };
  const set = Object.entries(times).filter(([, ms]) => ms > 0);
  return {
    Healthcheck: {
      ...(filled(test) ? { Test: [...test] } : {}),
      ...Object.fromEntries(set.map(([key, ms]) => [key, Math.round(ms * NS_PER_MS)])),
      ...(retries > 0 ? { Retries: retries } : {}),
    },
  };
}

/** What an image of a container starts with: the container's own settings. */
export function imageConfigOf(config: ContainerConfig): ImageConfig {
  const { entrypoint, cmd, workingDir, user, stopSignal, exposedPorts = [], volumes = [], shell = [] } = config;
  return {
    ...(config.env.length === 0 ? {} : { Env: [...config.env] }),
    ...(filled(entrypoint) ? { Entrypoint: [...(entrypoint ?? [])] } : {}),
    ...(filled(cmd) ? { Cmd: [...(cmd ?? [])] } : {}),
    ...(workingDir ? { WorkingDir: workingDir } : {}),
    ...(user ? { User: user } : {}),
    ...(stopSignal ? { StopSignal: stopSignal } : {}),
    ...(Object.keys(config.labels).length === 0 ? {} : { Labels: { ...config.labels } }),
    ...(exposedPorts.length === 0 ? {} : { ExposedPorts: keySet(exposedPorts) }),
    ...(volumes.length === 0 ? {} : { Volumes: keySet(volumes) }),
    ...(shell.length === 0 ? {} : { Shell: [...shell] }),
    ...healthOf(config),
  };
}

/** Settings given, with the container's where they say nothing (as dockerd merges them). */
export function mergeConfig(given: ImageConfig, own: ImageConfig): ImageConfig {
  const names = new Set((given.Env ?? []).map((entry) => entry.split('=', 1)[0]));
  const env = [...(given.Env ?? []), ...(own.Env ?? []).filter((entry) => !names.has(entry.split('=', 1)[0]))];
  const merged: ImageConfig = { ...own, ...given };
  if (env.length > 0) merged.Env = env;
  for (const key of ['ExposedPorts', 'Volumes'] as const) {
    const both = { ...own[key], ...given[key] };
    if (Object.keys(both).length > 0) merged[key] = both;
  }
  const labels = { ...own.Labels, ...given.Labels };
  if (Object.keys(labels).length > 0) merged.Labels = labels;
  // An entrypoint of its own drops the command of the container.
  if (filled(given.Entrypoint ?? undefined) && !filled(given.Cmd ?? undefined)) delete merged.Cmd;
  return merged;
}

/** Makes an image of a container: its changes as a layer over its image. @throws ShoalError NotFound, InvalidArgument */
export async function commitContainer(
  files: LayerSource,
  images: Images,
  unit: ContainerUnit,
  options: CommitOptions,
): Promise<Image> {
  const { config, imageId, state } = unit.container;
  const own = imageConfigOf(config);
  const given = options.config === undefined ? own : parseRunConfig(options.config);
  const request = {
    parentId: imageId,
    config: mergeConfig(applyChanges(given, options.changes), own),
    ...{ author: options.author, comment: options.comment, repository: options.repository, tag: options.tag },
    createdBy: (config.cmd ?? []).join(' '),
  };
  const pauses = options.pause && state === 'running';
  if (pauses) await pauseContainer(unit);
  let image: Image;
  try {
    image = await files.layer(unit, undefined, (archive) => images.commit(archive, request));
  } finally {
    // It may have been killed meanwhile.
    if (pauses && unit.container.state === 'paused') await unpauseContainer(unit);
  }
  const imageRef = image.repoTags.find((name) => name.startsWith(options.repository)) ?? '';
  unit.record.event('commit', {
    comment: options.comment,
    imageID: image.id,
    imageRef: options.repository === '' ? '' : imageRef,
  });
  return image;
}
