export { peerAddress, type TrustPolicy } from './access.ts';
export type {
  Access,
  CallContext,
  Caller,
  ClientStreamCall,
  HandlersOf,
  ServiceRules,
  StreamCall,
  UnaryCall,
} from './calls.ts';
export { ManagerClients } from './leader-link.ts';
export { ManagerServer, type LeadershipView, type ManagerServerOptions } from './server.ts';
