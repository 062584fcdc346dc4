import type { Store } from '../store/types.ts';
import { clusterMethods } from './clusters.ts';
import { configMethods } from './configs.ts';
import { explainMethods } from './explain.ts';
import { networkMethods } from './networks.ts';
import { nodeMethods } from './nodes.ts';
import { rebalanceMethods } from './rebalance.ts';
import { secretMethods } from './secrets.ts';
import { serviceMethods } from './services.ts';
import { serviceStatsMethods } from './service-stats.ts';
import { taskMethods } from './tasks.ts';
import type { Control, ControlOptions } from './types.ts';

/**
 * The Control service: every read and write of the Docker API on the cluster. Reads and writes are those of this
 * manager's store, so call it on the leader. Objects in responses are shared with the store: never change them.
 */
export function createControl(given: ControlOptions): Control {
  const options = { ...given, store: waitedFor(given.store) };
  return {
    ...nodeMethods(options),
    ...taskMethods(options),
    ...serviceMethods(options),
    ...rebalanceMethods(options),
    ...serviceStatsMethods(options),
    ...networkMethods(options),
    ...clusterMethods(options),
    ...secretMethods(options),
    ...configMethods(options),
    ...explainMethods(options),
  };
}

/** The store for those whose caller waits: their changes go before what the leader does of its own accord. */
function waitedFor(store: Store): Store {
  return {
    view: () => store.view(),
    update: (run) => store.update(run, true),
    watch: () => store.watch(),
  };
}
