import type { Clock, Logger } from '../../base/index.ts';
import { examine, repairAtStart, type DoctorRequest, type Look } from './doctor.ts';
import type { DoctorReport, Found } from './fault.ts';
import { checkHost, endStrayProcesses, type HostView } from './host-checks.ts';

/** The image store as the doctor needs it. */
export interface ExaminedStore {
  examine(containers: ReadonlySet<string>, deep: boolean, found: Found): Promise<Record<string, number>>;
}

/** Looks after what an engine keeps on its disk and host. */
export class Doctor {
  readonly #view: () => HostView;
  readonly #store: ExaminedStore | undefined;
  readonly #clock: Clock;
  readonly #log: Logger;

  constructor(options: { view: () => HostView; store: ExaminedStore | undefined; clock: Clock; log: Logger }) {
    this.#view = options.view;
    this.#store = options.store;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  readonly #look: Look = async (found, { deep }) => {
    const view = this.#view();
    const looked = checkHost(view, found);
    const ids = new Set([...view.containers.keys(), ...view.unreadable]);
    return { ...looked, ...(await this.#store?.examine(ids, deep, found)) };
  };

  examine(request: DoctorRequest): Promise<DoctorReport> {
    return examine(this.#look, request, this.#clock);
  }

  /** Before any container is taken over. */
  endStrays(): Promise<void> {
    return endStrayProcesses(this.#view());
  }

  /** When all are taken over, and nobody can ask for anything yet. */
  repairAtStart(): Promise<void> {
    return repairAtStart(this.#look, this.#log);
  }
}
