import { NodeStatus_State } from '../../proto/index.ts';
import type { ReadView } from '../../manager/index.ts';
import { Violation } from './violation.ts';

/** A node that no leader heard for so long is Down, ms: more than a new leader's longest grace, twice. */
export const SILENT_MAX_MS = 60_000;

/** A node that is silent while there is somebody to notice it is Down before long. */
export class SilenceCheck {
  /** For how long each node has been silent while a leader was at work, ms. */
  readonly #silentMs = new Map<string, number>();

  /** A leader took a call of the node's agent. */
  heard(nodeId: string): void {
    this.#silentMs.delete(nodeId);
  }

  /** Some time went by. @param led whether there was a leader at work. @throws Violation */
  passed(ms: number, led: boolean, view: ReadView): void {
    for (const id of this.#silentMs.keys()) if (view.get('node', id) === undefined) this.#silentMs.delete(id);
    if (!led) return;
    for (const node of view.list('node')) {
      // One without description has never been here.
      if (node.status?.state === NodeStatus_State.DOWN || node.description === null) {
        this.#silentMs.delete(node.id);
        continue;
      }
      const silentMs = (this.#silentMs.get(node.id) ?? 0) + ms;
      this.#silentMs.set(node.id, silentMs);
      if (silentMs <= SILENT_MAX_MS) continue;
      const what = `node ${node.description.hostname} was silent for ${silentMs / 1000} s, and is not Down`;
      throw new Violation('silent nodes are Down', what);
    }
  }
}
