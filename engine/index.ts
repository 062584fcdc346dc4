export * from './types.ts';
export { Engine, probeEngineHost, type EngineInfo, type EngineOptions, type ProbeHostOptions } from './engine.ts';
export { openImages } from './images/index.ts';
export { openVolumes } from './volumes/index.ts';
