import { errorMessage, type Clock, type Logger } from '../../base/index.ts';
import type { DoctorReport, Fault, Finding, Found } from './fault.ts';
import { reportLines } from './report-text.ts';

/** While a daemon works, only what is still wrong after this time is a fault, ms. */
const SECOND_LOOK_MS = 600;

/** Looks at everything once. Returns how many things of each sort it looked at. */
export type Look = (found: Found, options: { deep: boolean }) => Promise<Record<string, number>>;

export interface DoctorRequest {
  /** Also read every blob and compare it with its digest. */
  deep: boolean;
  repair: boolean;
}

async function lookOnce(look: Look, deep: boolean): Promise<{ faults: Fault[]; looked: Record<string, number> }> {
  const faults: Fault[] = [];
  const looked = await look((fault) => void faults.push(fault), { deep });
  return { faults, looked };
}

const nameOf = (fault: Fault): string => `${fault.kind} ${fault.subject}`;

const told = ({ repair, ...facts }: Fault): Finding => {
  return { ...facts, repairable: repair !== undefined, repaired: false, repairError: '' };
};

async function mend(fault: Fault): Promise<Finding> {
  if (fault.repair === undefined) return told(fault);
  try {
    await fault.repair();
    return { ...told(fault), repaired: true };
  } catch (error) {
    return { ...told(fault), repairError: errorMessage(error) };
  }
}

/**
 * Examines the stores and leavings of a host, and repairs what is safe.
 * @param clock set while a daemon works: what is under way looks wrong for a moment, so everything is looked at twice.
 */
export async function examine(look: Look, request: DoctorRequest, clock?: Clock): Promise<DoctorReport> {
  const { deep } = request;
  let { faults, looked } = await lookOnce(look, deep);
  if (clock !== undefined && faults.length > 0) {
    const before = new Set(faults.map(nameOf));
    await clock.sleep(SECOND_LOOK_MS);
    ({ faults, looked } = await lookOnce(look, deep));
    faults = faults.filter((fault) => before.has(nameOf(fault)));
  }
  const findings: Finding[] = [];
  for (const fault of faults) findings.push(request.repair ? await mend(fault) : told(fault));
  const report = { findings, looked, deep };
  return { ...report, lines: reportLines(report) };
}

/** The cheap repairs of a daemon's start, before anything is under way; each is told in the log. */
export async function repairAtStart(look: Look, log: Logger): Promise<void> {
  const { findings } = await examine(look, { deep: false, repair: true });
  for (const { kind, problem, remedy, repaired, repairError } of findings) {
    if (repaired) log.info('leavings of an earlier life were cleared away', { kind, problem, remedy });
    else log.warn('something is wrong with the store; see shoal doctor', { kind, problem, remedy, repairError });
  }
}
