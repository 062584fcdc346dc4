/** A manager without TLS, gRPC and files, for the simulation of the whole control plane (daemon/sim). */
export { SimManager, type SimManagerOptions } from './manager.ts';
export type { Control } from '../control/index.ts';
export type { DispatcherHandlers } from '../dispatcher/index.ts';
export type { LogBrokerHandlers } from '../logs/index.ts';
export { NO_LEADER_MESSAGE } from '../store/store.ts';
