export * from './bed.ts';
export * from './client.ts';
export * from './until.ts';
export * from './web.ts';
