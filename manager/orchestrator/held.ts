import type { Service } from '../../proto/index.ts';
import { readServiceSettings, type Dependency } from '../settings/index.ts';

export const DEPENDS_ON_LABEL = 'shoal.depends-on';

export function labelsOf(service: Service): Readonly<Record<string, string>> {
  return service.spec?.annotations?.labels ?? {};
}

/** Stored services never change: what was read from one holds for as long as it is the same object. */
const parsed = new WeakMap<Service, readonly Dependency[]>();

/** What a service waits for at its first start. Labels that no longer parse ask for nothing. */
export function dependenciesOf(service: Service): readonly Dependency[] {
  if (labelsOf(service)[DEPENDS_ON_LABEL] === undefined) return [];
  let known = parsed.get(service);
  if (known === undefined) {
    try {
      known = readServiceSettings(labelsOf(service)).dependsOn;
    } catch {
      // Labels are checked when they are set; these come from a version of Shoal that knew others.
      known = [];
    }
    parsed.set(service, known);
  }
  return known;
}

/** Whether the tasks of a service are prepared, but not let start, because it waits for others at its first start. */
export function isHeld(service: Service): boolean {
  return service.dependencies_met === null && dependenciesOf(service).length > 0;
}
