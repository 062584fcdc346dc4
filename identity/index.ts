export {
  DEFAULT_REQUEST_TIMEOUT_MS,
  fetchLock,
  refreshRoot,
  renewalDelayMs,
  renewCertificate,
  requestCertificate,
  type CertificateRequest,
  type RenewalRequest,
} from './client.ts';
export {
  callServerStream,
  callUnary,
  fromServiceError,
  isServiceError,
  toServiceError,
  type CallOptions,
} from './grpc.ts';
export { checkRootDigest, makeJoinToken, parseJoinToken, rootDigest, sameToken, type JoinToken } from './join-token.ts';
export { IdentityStore, type IdentityState, type KeyFileChange } from './identity-store.ts';
export { NO_LOCK, type KeyLock } from './key-file.ts';
export { identityFromPem, issuerInfo, tlsInfoOf, type NodeIdentity } from './node-identity.ts';
export {
  anonymousCredentials,
  certificateIdentity,
  channelOptions,
  MAX_MESSAGE_BYTES,
  peerIdentity,
  TlsIdentity,
  unverifiedCredentials,
  type AuthenticatedCall,
  type PeerIdentity,
} from './tls.ts';
export {
  CA_SERVER_NAME,
  createCsr,
  createRootCa,
  crossSign,
  DEFAULT_CERTIFICATE_LIFETIME_MS,
  issueCertificate,
  MANAGER_SERVER_NAME,
  MIN_CERTIFICATE_LIFETIME_MS,
  parseCertificate,
  roleOfUnits,
  verifyChain,
  verifyCsr,
  type CertificateRole,
  type DistinguishedName,
  type IssueOptions,
  type KeyedCertificate,
  type ParsedCertificate,
} from './x509.ts';
