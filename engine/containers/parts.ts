import type { Clock, Logger, Random, Spawner } from '../../base/index.ts';
import type { HostNetworks } from '../../overlay-net/index.ts';
import type { Roots } from '../files/roots.ts';
import type { LogKeeper } from '../logs/keeper.ts';
import type { LogDriver } from '../logs/policy.ts';
import type { LogShippers } from '../logs/shipper.ts';
import type { CdiFiles } from '../runtime/cdi-files.ts';
import type { GroupPlace } from '../runtime/cgroup-driver.ts';
import type { Cgroups } from '../runtime/cgroups.ts';
import type { Runtime } from '../runtime/conmon.ts';
import type { ContainerStreams } from '../streams/streams.ts';
import type { Runtimes } from '../runtime/runtimes.ts';
import type { SysInfo } from '../runtime/sysinfo.ts';
import type {
  ContainerDefaults,
  Container,
  EngineEvent,
  Images,
  SwarmNetworks,
  UlimitRequest,
  Volumes,
} from '../types.ts';
import type { ContainerUsers } from '../userns/container-users.ts';
import type { Counters } from './counters.ts';
import type { Limiter } from './limiter.ts';
import type { ContainerStore } from './store.ts';

/** What a container needs of its host. */
export interface Parts {
  clock: Clock;
  random: Random;
  log: Logger;
  spawner: Spawner;
  images: Images;
  /** Mounts the roots of containers; `images` has them, others look at them too. */
  roots: Roots;
  volumes: Volumes;
  /** Ids that users of containers have on the host. */
  users: ContainerUsers;
  networks: HostNetworks;
  /** Absent: there are networks of this host only. */
  swarm?: SwarmNetworks | undefined;
  runtime: Runtime;
  /** Who is attached to containers. */
  streams: ContainerStreams;
  runtimes: Runtimes;
  /** What the kernel can limit. */
  sysInfo: SysInfo;
  cgroups: Cgroups;
  cdi: CdiFiles;
  store: ContainerStore;
  /** Bounds how many containers are made at once. */
  starts: Limiter;
  logs: LogKeeper;
  shippers: LogShippers;
  /** Log driver of containers that name none. */
  logDefaults: LogDriver;
  /** Directory that is (or becomes) a tmpfs for injected files. */
  filesRoot: string;
  /** Where the control groups of containers stand. */
  groups: GroupPlace;
  defaultUlimits: readonly UlimitRequest[];
  swapAccounting: boolean;
  /** The kernel runs x32 programs. */
  x32: boolean;
  /** Every container gets an init process, asked for or not. */
  initDefault: boolean;
  /** What containers get that say nothing themselves. */
  defaults: ContainerDefaults;
  /** Resolvers of containers that name none. */
  dns: readonly string[];
  counters: Counters;
  publish: (event: EngineEvent) => void;
  /** A container has started, or its networks have changed: others may be linked to it. */
  moved: (containerId: string) => void;
  /** Another container by name or id; undefined when there is none. */
  find: (reference: string) => Container | undefined;
}
