export * from './ports.ts';
export { metricsRoutes } from './routes/metrics.ts';
export { ApiServer, type ApiServerOptions } from './server.ts';
export type { Metric } from './shapes/metrics.ts';
export { clusterSpecFromJson } from './shapes/swarm.ts';
export { API_VERSION, MIN_API_VERSION } from './versions.ts';
