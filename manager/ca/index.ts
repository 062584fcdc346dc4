export { checkedNodeLabels } from './node-labels.ts';
export { CertificateAuthority, isBlacklisted, type AuthorityCall, type AuthorityDeps } from './authority.ts';
export {
  clusterOf,
  completeClusterSpec,
  createBootstrapIdentity,
  createCluster,
  defaultClusterSpec,
  type ClusterInit,
} from './bootstrap.ts';
export { createNetworkKeyRotation } from './network-keys.ts';
export { beginRootRotation, createRootRotation, demandRenewal, rotateJoinTokens, signerOf } from './rotation.ts';
