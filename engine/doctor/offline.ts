import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import {
  errorMessage,
  notFound,
  ShoalError,
  silentLogger,
  type Clock,
  type Random,
  type Spawner,
} from '../../base/index.ts';
import { knownFacts } from '../containers/known.ts';
import { ContainerStore } from '../containers/store.ts';
import { openImages, readStore } from '../images/index.ts';
import { checkStore, type StoreView } from '../images/store-check.ts';
import { DEFAULT_PARENTS, type GroupPlace } from '../runtime/cgroup-driver.ts';
import { Cgroups, readCgroupLayout } from '../runtime/cgroups.ts';
import { unmountEvery } from '../storage/index.ts';
import { examine, type DoctorRequest } from './doctor.ts';
import type { DoctorReport, Found } from './fault.ts';
import { checkHost, type HostView } from './host-checks.ts';

export interface OfflineOptions {
  dataRoot: string;
  execRoot: string;
  /** A path, or a slice's name; empty: the daemon's own ones, of either driver. */
  cgroupParent: string;
  spawner: Spawner;
  clock: Clock;
  random: Random;
}

/** Where a daemon may have put its containers. @throws ShoalError InvalidArgument */
function placesOf(parent: string): [GroupPlace, ...GroupPlace[]] {
  const path: GroupPlace = { driver: 'cgroupfs', parent: parent || DEFAULT_PARENTS.cgroupfs };
  const slice = parent || DEFAULT_PARENTS.systemd;
  if (!slice.endsWith('.slice')) return [path];
  // A path that ends so may be meant too.
  return [path, { driver: 'systemd', parent: slice }];
}

/** Opening the store sweeps and repairs it; once is enough for all faults. */
function reopened(options: OfflineOptions): () => Promise<void> {
  let opened: Promise<void> | undefined;
  return () =>
    (opened ??= openImages({
      ...options,
      log: silentLogger,
      registries: { insecure: [], mirrors: [] },
      onEvent: () => undefined,
      usedBy: () => [],
    }).then((store) => store.close()));
}

async function storeView(options: OfflineOptions, containers: ReadonlySet<string>): Promise<StoreView> {
  const { dataRoot } = options;
  const stored = await readStore(dataRoot).catch((error: unknown) => {
    const words = `the image store of ${dataRoot} cannot be opened: ${errorMessage(error)}; if a daemon uses it, leave out --data-root`;
    throw new ShoalError('FailedPrecondition', words, { cause: error });
  });
  const reopen = reopened(options);
  return {
    dataRoot,
    images: stored.images.map(({ id }) => id),
    layers: stored.layers,
    references: stored.references,
    held: { blobs: new Set(), layers: new Set() },
    busy: false,
    containers,
    nowMs: options.clock.now(),
    mend: {
      dropImage: reopen,
      dropLayer: reopen,
      dropReference: reopen,
      relink: reopen,
      removeBlob: (path) => rm(path, { recursive: true, force: true }),
      discard: (path) => rm(path, { recursive: true, force: true }),
      removeRoot: async (id) => {
        unmountEvery(join(dataRoot, 'overlay2', id, 'merged'));
        await rm(join(dataRoot, 'overlay2', id), { recursive: true, force: true });
      },
    },
  };
}

/**
 * As `Doctor.examine`, on the data root of a daemon that does not run.
 * @throws ShoalError NotFound for what is no data root, FailedPrecondition while a daemon uses it.
 */
export async function examineOffline(options: OfflineOptions, request: DoctorRequest): Promise<DoctorReport> {
  const { dataRoot, execRoot, cgroupParent } = options;
  if (!existsSync(join(dataRoot, 'image', 'metadata.db'))) {
    throw notFound(`${dataRoot} is not the data root of a daemon: it holds no image store`);
  }
  const store = new ContainerStore(join(dataRoot, 'containers'), silentLogger);
  const look = async (found: Found, { deep }: { deep: boolean }): Promise<Record<string, number>> => {
    const records = await store.survey();
    const containers = new Map(
      records.map((stored) => [stored.container.id, knownFacts(stored, stored.container.state === 'restarting')]),
    );
    const view: HostView = {
      dataRoot,
      execRoot,
      groups: placesOf(cgroupParent),
      cgroups: new Cgroups(readCgroupLayout(), options.clock),
      containers,
      unreadable: store.unreadable,
      alone: async (_id, work) => work(),
    };
    const looked = checkHost(view, found);
    const images = await storeView(options, new Set([...containers.keys(), ...store.unreadable]));
    return { ...looked, ...(await checkStore(images, deep, found)) };
  };
  return examine(look, request);
}
