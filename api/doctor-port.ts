/** A fault of the stores or leavings of a host, and what became of it. */
export interface FindingFacts {
  kind: string;
  subject: string;
  problem: string;
  remedy: string;
  repairable: boolean;
  repaired: boolean;
  /** Why a repair failed; empty when none was tried or it succeeded. */
  repairError: string;
}

/** The consistency check of `shoal doctor`. */
export interface DoctorPort {
  examine(request: { deep: boolean; repair: boolean }): Promise<{
    findings: FindingFacts[];
    /** How many things of each sort were looked at. */
    looked: Readonly<Record<string, number>>;
    deep: boolean;
    /** In words, for people. */
    lines: string[];
  }>;
}
