export * from './store/types.ts';
