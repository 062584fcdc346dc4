export * from './types.ts';
export { Engine, probeEngineHost, type EngineInfo, type EngineOptions, type ProbeHostOptions } from './engine.ts';
export { examineOffline, type OfflineOptions } from './doctor/offline.ts';
export type { DoctorReport, Finding } from './doctor/fault.ts';
export { diskUsage, type PressurePolicy } from './pressure/pressure.ts';
export { Counters, DURATION_BOUNDS_SECONDS } from './containers/counters.ts';
export { parseSize as byteSize } from './logs/policy.ts';
export { openImages } from './images/index.ts';
export { openVolumes, volumeUsers } from './volumes/index.ts';
