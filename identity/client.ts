import { Client } from '@grpc/grpc-js';
import {
  abortReason,
  backoffDelayMs,
  errorMessage,
  isShoalError,
  retry,
  ShoalError,
  type Clock,
  type Logger,
  type Random,
} from '../base/index.ts';
import {
  CAService,
  GetRootCACertificateRequest,
  GetUnlockKeyRequest,
  IssuanceStatus_State,
  IssueNodeCertificateRequest,
  NodeCAService,
  NodeCertificateStatusRequest,
  type NodeSpec_Availability,
} from '../proto/index.ts';
import { callUnary } from './grpc.ts';
import { checkRootDigest, parseJoinToken } from './join-token.ts';
import { NO_LOCK, type KeyLock } from './key-file.ts';
import { identityFromPem, type NodeIdentity } from './node-identity.ts';
import { anonymousCredentials, channelOptions, TlsIdentity, unverifiedCredentials } from './tls.ts';
import { CA_SERVER_NAME, createCsr, verifyChain } from './x509.ts';

/** Tries for the download of the root bundle, and for the request of a certificate. */
const ATTEMPTS = 5;
/** Time for one call, ms. */
const CALL_TIMEOUT_MS = 5_000;
/** Time for a whole request of a certificate unless the caller says otherwise, ms. */
export const DEFAULT_REQUEST_TIMEOUT_MS = 20_000;
const RETRY = { baseMs: 200, capMs: 2_000 };
const POLL_BACKOFF = { baseMs: 1_000, capMs: 30_000 };

interface Common {
  /** Address of a manager, `host:port`. */
  remoteAddr: string;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Time for everything, ms. */
  timeoutMs?: number | undefined;
  signal?: AbortSignal | undefined;
}

export interface CertificateRequest extends Common {
  token: string;
  availability?: NodeSpec_Availability | undefined;
  /** Labels that the new node has from the start. */
  nodeLabels?: Readonly<Record<string, string>> | undefined;
}

export interface RenewalRequest extends Common {
  /** The present identity; its node id is kept, its key is not. */
  identity: NodeIdentity;
}

/** Codes that another try may cure. */
const isTransient = (error: unknown): boolean => isShoalError(error, 'Unavailable', 'DeadlineExceeded');

/** Ends with the caller's signal or when the time is up, whichever is first. */
async function bounded<T>(request: Common, run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const timeoutMs = request.timeoutMs ?? DEFAULT_REQUEST_TIMEOUT_MS;
  const controller = new AbortController();
  const outer = request.signal;
  const onAbort = (): void => controller.abort(abortReason(outer as AbortSignal));
  if (outer?.aborted === true) onAbort();
  outer?.addEventListener('abort', onAbort, { once: true });
  const timer = request.clock.after(timeoutMs, () => {
    const why = `the manager at ${request.remoteAddr} gave no certificate within ${timeoutMs} ms`;
    controller.abort(new ShoalError('Unavailable', why));
  });
  try {
    return await run(controller.signal);
  } catch (error) {
    if (isTransient(error) && !errorMessage(error).includes(request.remoteAddr)) {
      const why = `the manager at ${request.remoteAddr} cannot be reached or is not ready: ${errorMessage(error)}`;
      throw new ShoalError('Unavailable', why, { cause: error });
    }
    throw error;
  } finally {
    timer.cancel();
    outer?.removeEventListener('abort', onAbort);
  }
}

const retrying = <T>(request: Common, signal: AbortSignal, run: () => Promise<T>): Promise<T> =>
  retry(run, { ...RETRY, attempts: ATTEMPTS, ...request, signal, retryable: isTransient });

/**
 * Downloads the root bundle of the cluster at an address without verifying the server.
 * The caller must check it: against a token's digest, or against a chain it holds.
 */
async function fetchRoot(request: Common, signal: AbortSignal): Promise<Uint8Array> {
  const client = new Client(request.remoteAddr, unverifiedCredentials(), channelOptions(CA_SERVER_NAME));
  try {
    return await retrying(request, signal, async () => {
      const call = { timeoutMs: CALL_TIMEOUT_MS, signal };
      const response = await callUnary(
        client,
        CAService.GetRootCACertificate,
        GetRootCACertificateRequest.create(),
        call,
      );
      return response.certificate;
    });
  } finally {
    client.close();
  }
}

/** Asks until the authority has decided on this very signing request. @returns the chain, PEM */
async function awaitCertificate(
  client: Client,
  nodeId: string,
  csr: string,
  request: Common,
  signal: AbortSignal,
): Promise<string> {
  for (let attempt = 0; ; attempt++) {
    try {
      const status = NodeCertificateStatusRequest.create({ node_id: nodeId });
      const call = { timeoutMs: CALL_TIMEOUT_MS, signal };
      const response = await callUnary(client, NodeCAService.NodeCertificateStatus, status, call);
      const state = response.status?.state;
      const certificate = response.certificate;
      const ours = certificate !== null && Buffer.from(certificate.csr).toString() === csr;
      if (state === IssuanceStatus_State.FAILED && ours) {
        throw new ShoalError(
          'FailedPrecondition',
          `the manager refused the certificate: ${response.status?.err ?? ''}`,
        );
      }
      const decided = state === IssuanceStatus_State.ISSUED || state === IssuanceStatus_State.ROTATE;
      if (decided && ours && certificate.certificate.length > 0) return Buffer.from(certificate.certificate).toString();
    } catch (error) {
      if (signal.aborted || !isTransient(error)) throw error;
    }
    await request.clock.sleep(backoffDelayMs(attempt, POLL_BACKOFF, request.random), signal);
  }
}

async function issue(
  client: Client,
  rootCa: string,
  request: Common,
  fields: { token?: string; availability?: NodeSpec_Availability | undefined; node_labels?: Record<string, string> },
  signal: AbortSignal,
): Promise<NodeIdentity> {
  const { csr, key } = createCsr();
  const message = IssueNodeCertificateRequest.create({ csr: Buffer.from(csr), ...fields });
  const { node_id: nodeId } = await retrying(request, signal, () =>
    callUnary(client, NodeCAService.IssueNodeCertificate, message, { timeoutMs: CALL_TIMEOUT_MS, signal }),
  );
  const cert = await awaitCertificate(client, nodeId, csr, request, signal);
  verifyChain(cert, rootCa, request.clock.now(), key);
  const identity = identityFromPem(cert, key, rootCa);
  if (identity.nodeId !== nodeId) {
    throw new ShoalError('DataLoss', `the manager issued a certificate for ${identity.nodeId} instead of ${nodeId}`);
  }
  return identity;
}

/**
 * Becomes a node of a cluster: fetches and checks its root certificates, and has a new key certified with a join token.
 * The token decides the role. Nothing is stored here: how a manager's key must lie on the disk, `fetchLock` tells.
 * @throws ShoalError InvalidArgument (malformed or wrong token), FailedPrecondition (the address serves another
 *   cluster), Unavailable that names the address.
 */
export function requestCertificate(request: CertificateRequest): Promise<NodeIdentity> {
  return bounded(request, async (signal) => {
    const token = parseJoinToken(request.token);
    const rootBytes = await fetchRoot(request, signal);
    checkRootDigest(rootBytes, token);
    const rootCa = Buffer.from(rootBytes).toString();
    const client = new Client(request.remoteAddr, anonymousCredentials(rootCa), channelOptions(CA_SERVER_NAME));
    try {
      const node_labels = { ...request.nodeLabels };
      const fields = { token: request.token, availability: request.availability, node_labels };
      return await issue(client, rootCa, request, fields, signal);
    } finally {
      client.close();
    }
  });
}

/**
 * Has a new key certified for the same node, proving itself with the present certificate. The manager decides the role,
 * so this is also how a promoted or demoted node gets its new role.
 * @throws ShoalError Unavailable that names the address; PermissionDenied when the node was removed.
 */
export function renewCertificate(request: RenewalRequest): Promise<NodeIdentity> {
  return bounded(request, async (signal) => {
    const tls = new TlsIdentity(request.identity);
    const client = new Client(request.remoteAddr, tls.channelCredentials(), channelOptions(CA_SERVER_NAME));
    try {
      return await issue(client, request.identity.rootCa, request, {}, signal);
    } finally {
      client.close();
    }
  });
}

/**
 * The lock that a new manager's secrets must have on its disk: none without autolock, or where managers know of none
 * (swarmkit.md §1.6).
 * @throws ShoalError Unavailable that names the address; PermissionDenied for a node that is no manager.
 */
export function fetchLock(request: RenewalRequest): Promise<KeyLock> {
  return bounded(request, async (signal) => {
    const tls = new TlsIdentity(request.identity);
    const client = new Client(request.remoteAddr, tls.channelCredentials(), channelOptions(CA_SERVER_NAME));
    const call = { timeoutMs: CALL_TIMEOUT_MS, signal };
    try {
      const { unlock_key: secret, version } = await retrying(request, signal, () =>
        callUnary(client, CAService.GetUnlockKey, GetUnlockKeyRequest.create(), call),
      );
      return { secret: secret.length === 0 ? null : secret, version: version?.index ?? 0 };
    } catch (error) {
      if (isShoalError(error, 'Unimplemented')) return NO_LOCK;
      throw error;
    } finally {
      client.close();
    }
  });
}

/**
 * Downloads the root bundle anew, for a node that no longer trusts its managers after a rotation. It is accepted only if
 * the node's own certificate leads to it.
 * @returns the bundle, PEM. @throws ShoalError FailedPrecondition, Unavailable
 */
export function refreshRoot(request: RenewalRequest): Promise<string> {
  return bounded(request, async (signal) => {
    const rootCa = Buffer.from(await fetchRoot(request, signal)).toString();
    verifyChain(request.identity.cert, rootCa, request.clock.now());
    return rootCa;
  });
}

/**
 * When to renew, ms from now: a random moment between 50 % and 80 % of the validity, at once when that is past.
 */
export function renewalDelayMs(
  validity: { notBeforeMs: number; expiryMs: number },
  nowMs: number,
  random: Random,
): number {
  const whole = validity.expiryMs - validity.notBeforeMs;
  const from = validity.notBeforeMs + whole * 0.5;
  const at = from + random.float() * whole * 0.3;
  return Math.max(0, Math.round(at - nowMs));
}
