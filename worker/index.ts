export * from './executor.ts';
export { Agent, type AgentOptions, type AgentStatus } from './agent.ts';
export type { AgentConnection, ConnectManager, LogStream, ReportEvents, ReportLink } from './connection.ts';
export type { StateChanges, StateRecord, StoredState } from './state-db.ts';
export { reaches } from './reach.ts';
export { grpcConnection } from './grpc.ts';
