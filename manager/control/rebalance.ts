import { failedPrecondition, invalidArgument } from '../../base/index.ts';
import { timestampFromMs, UpdateStatus_UpdateState, type Service } from '../../proto/index.ts';
import { resolve } from './lookup.ts';
import { modeOf } from './service-spec.ts';
import type { Control, ControlOptions } from './types.ts';

function checkRebalance(service: Service): void {
  const name = service.spec?.annotations?.name ?? service.id;
  if (modeOf(service.spec) !== 'replicated') {
    throw invalidArgument(`service ${name} is not replicated: only replicas can move from node to node`);
  }
  const state = service.update_status?.state;
  const { PAUSED, ROLLBACK_PAUSED } = UpdateStatus_UpdateState;
  if (state === PAUSED || state === ROLLBACK_PAUSED) {
    throw failedPrecondition(
      `the update of service ${name} is paused: nothing moves until it has gone on (service update) or back (service rollback)`,
    );
  }
}

/** Rebalancing by hand; the orchestrator does it and takes the request back. */
export function rebalanceMethods({ store, clock }: ControlOptions): Pick<Control, 'RebalanceService'> {
  return {
    RebalanceService: async ({ service_id }) => {
      const id = await store.update((tx) => {
        const service = resolve(tx, 'service', service_id);
        checkRebalance(service);
        if (service.rebalance_requested === null) {
          tx.update('service', { ...service, rebalance_requested: timestampFromMs(clock.now()) });
        }
        return service.id;
      });
      return { service: resolve(store.view(), 'service', id) };
    },
  };
}
