import type { SeededRandom } from '../../base/index.ts';
import type { Membership } from '../core/index.ts';
import type { RaftNode } from '../node.ts';
import type { AccountedMember, DiskHealth } from './account.ts';
import type { CoreWatch } from './checkers.ts';
import type { SimDisk } from './disk.ts';
import type { SimMachine } from './model.ts';
import type { SimProcess } from './process.ts';

/** One run of a member's program. */
export interface Run {
  process: SimProcess;
  /** Set once it has started. */
  node: RaftNode | undefined;
  machine: SimMachine;
  watch: CoreWatch | undefined;
  membership: Membership | undefined;
}

/** One member: a disk, and the runs of its program, one after the other. */
export class Member implements AccountedMember {
  readonly id: number;
  readonly disk: SimDisk;
  readonly random: SeededRandom;
  /** It began the group. */
  readonly first: boolean;
  health: DiskHealth = 'sound';
  membership: Membership | null = null;
  retired = false;
  run: Run | undefined;
  /** The operator starts it again at this instant at the earliest. */
  startAt = 0;
  /** The run during which bytes of its disk were changed: it does not know it yet. */
  damagedRun: Run | undefined;
  /** It was seen in a membership. */
  joined = false;
  /** It was seen to leave one: its id is never used again. */
  removed = false;
  /** How fast its clock goes. */
  rate: number;

  constructor(id: number, disk: SimDisk, random: SeededRandom, first: boolean, rate: number) {
    this.id = id;
    this.disk = disk;
    this.random = random;
    this.first = first;
    this.rate = rate;
  }

  get node(): RaftNode | undefined {
    return this.run?.node;
  }

  get paused(): boolean {
    return this.run?.process.paused === true;
  }

  /** Its program runs, and has started. */
  get up(): boolean {
    return this.run?.node !== undefined;
  }

  get leads(): boolean {
    return this.run?.node?.core.role === 'leader';
  }
}
