/** What can be wrong with the stores and leavings of one host. */
export type FaultKind =
  | 'layer-missing'
  | 'layer-orphan'
  | 'layer-link'
  | 'image-damaged'
  | 'reference-dangling'
  | 'blob-missing'
  | 'blob-damaged'
  | 'blob-orphan'
  | 'root-orphan'
  | 'root-broken'
  | 'mount-orphan'
  | 'container-unreadable'
  | 'container-orphan'
  | 'container-lost'
  | 'process-orphan'
  | 'cgroup-orphan'
  | 'runtime-orphan'
  | 'sandbox-orphan'
  | 'namespace-orphan'
  | 'temporary-stale';

/** One fault. `repair` is absent where a repair could lose something that a user may want. */
export interface Fault {
  kind: FaultKind;
  /** What it is about: an id, a path or a process; with `kind` it names the fault. */
  subject: string;
  /** A sentence. */
  problem: string;
  /** What `repair` does, or what the user can do; a sentence. */
  remedy: string;
  repair?: () => Promise<void> | void;
}

/** A fault as users are told of it. */
export interface Finding extends Omit<Fault, 'repair'> {
  repairable: boolean;
  repaired: boolean;
  /** Why a repair failed; empty when none was tried or it succeeded. */
  repairError: string;
}

/** What an examination has found. */
export interface DoctorReport {
  findings: Finding[];
  /** How many things of each sort were looked at. */
  looked: Readonly<Record<string, number>>;
  deep: boolean;
  /** The same in words, for people. */
  lines: string[];
}

/** Adds to the faults found so far. */
export type Found = (fault: Fault) => void;
