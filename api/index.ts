export * from './ports.ts';
export { ApiServer, type ApiServerOptions } from './server.ts';
export { clusterSpecFromJson } from './shapes/swarm.ts';
export { API_VERSION, MIN_API_VERSION } from './versions.ts';
