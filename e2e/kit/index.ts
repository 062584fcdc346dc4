export * from './bed.ts';
export * from './client.ts';
export * from './faults.ts';
export * from './until.ts';
export * from './updates.ts';
export * from './web.ts';
export * from './processes.ts';
