export * from './gen/types.ts';
export * from './message.ts';
export * from './network-delta.ts';
export * from './port-protocol.ts';
export * from './service.ts';
export * from './task-state.ts';
export * from './time.ts';
export * from './wire.ts';
