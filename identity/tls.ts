import { createSecureContext, type TlsOptions } from 'node:tls';
import { credentials, experimental, type ChannelCredentials, type ChannelOptions } from '@grpc/grpc-js';
import type { NodeIdentity } from './node-identity.ts';
import { CA_SERVER_NAME, MANAGER_SERVER_NAME, parseCertificate, roleOfUnits, type CertificateRole } from './x509.ts';

/** Largest gRPC message taken or sent, bytes: snapshots are split below it, lists of tasks must fit. */
export const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
/** Silence after which a connection is probed, and time for the answer, ms. */
const KEEPALIVE_TIME_MS = 10_000;
const KEEPALIVE_TIMEOUT_MS = 5_000;
/** Longest pause between connection attempts of a channel, ms. */
const RECONNECT_CAP_MS = 2_000;

type CaListener = Parameters<experimental.CertificateProvider['addCaCertificateListener']>[0];
type KeyListener = Parameters<experimental.CertificateProvider['addIdentityCertificateListener']>[0];

/**
 * The certificate that servers and channels of this process present, replaceable while they run: a new handshake uses the
 * newest one, an open connection keeps what it began with.
 */
export class TlsIdentity implements experimental.CertificateProvider {
  #identity: NodeIdentity;
  readonly #caListeners = new Set<CaListener>();
  readonly #keyListeners = new Set<KeyListener>();
  readonly #updateListeners = new Set<() => void>();
  readonly #channel: ChannelCredentials;

  constructor(identity: NodeIdentity) {
    this.#identity = identity;
    this.#channel = experimental.createCertificateProviderChannelCredentials(this, this, {});
  }

  get current(): NodeIdentity {
    return this.#identity;
  }

  /** From now on handshakes use this identity. */
  update(identity: NodeIdentity): void {
    this.#identity = identity;
    for (const listener of this.#caListeners) listener(this.#ca());
    for (const listener of this.#keyListeners) listener(this.#keyPair());
    for (const listener of this.#updateListeners) listener();
  }

  /**
   * Settings of a TLS server that asks for a client certificate but takes connections without one: some methods are open
   * to all. `peerIdentity` tells who calls; a certificate that does not verify counts as none.
   */
  serverOptions(): TlsOptions {
    const { cert, key, rootCa } = this.#identity;
    return { cert, key, ca: rootCa, requestCert: true, rejectUnauthorized: false, ALPNProtocols: ['h2'] };
  }

  /** Calls `listener` after each `update`. @returns what ends that. */
  onUpdate(listener: () => void): () => void {
    this.#updateListeners.add(listener);
    return () => this.#updateListeners.delete(listener);
  }

  /** Credentials for mutual TLS; use them with `channelOptions` so that the server's name is checked. */
  channelCredentials(): ChannelCredentials {
    return this.#channel;
  }

  #ca(): { caCertificate: Buffer } {
    return { caCertificate: Buffer.from(this.#identity.rootCa) };
  }

  #keyPair(): { certificate: Buffer; privateKey: Buffer } {
    return { certificate: Buffer.from(this.#identity.cert), privateKey: Buffer.from(this.#identity.key) };
  }

  // A listener must not be called before its registration returns.
  addCaCertificateListener(listener: CaListener): void {
    this.#caListeners.add(listener);
    process.nextTick(() => {
      if (this.#caListeners.has(listener)) listener(this.#ca());
    });
  }

  removeCaCertificateListener(listener: CaListener): void {
    this.#caListeners.delete(listener);
  }

  addIdentityCertificateListener(listener: KeyListener): void {
    this.#keyListeners.add(listener);
    process.nextTick(() => {
      if (this.#keyListeners.has(listener)) listener(this.#keyPair());
    });
  }

  removeIdentityCertificateListener(listener: KeyListener): void {
    this.#keyListeners.delete(listener);
  }
}

/**
 * Options of a channel to a manager, whose certificate must carry `serverName`. The pool of connections is the channel's
 * own: a channel made after a renewal never reuses a connection made with the old certificate.
 */
export function channelOptions(
  serverName: typeof CA_SERVER_NAME | typeof MANAGER_SERVER_NAME = MANAGER_SERVER_NAME,
): ChannelOptions {
  return {
    'grpc.ssl_target_name_override': serverName,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.max_receive_message_length': MAX_MESSAGE_BYTES,
    'grpc.max_send_message_length': MAX_MESSAGE_BYTES,
    'grpc.keepalive_time_ms': KEEPALIVE_TIME_MS,
    'grpc.keepalive_timeout_ms': KEEPALIVE_TIMEOUT_MS,
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': RECONNECT_CAP_MS,
    'grpc.enable_retries': 0,
    'grpc.service_config_disable_resolution': 1,
  };
}

/** Credentials that check the server against a root bundle and present no certificate (a node that joins). */
export function anonymousCredentials(rootCa: string): ChannelCredentials {
  return credentials.createSsl(Buffer.from(rootCa));
}

/** Credentials that check nothing; only for the download of a root bundle whose digest is known. */
export function unverifiedCredentials(): ChannelCredentials {
  return credentials.createFromSecureContext(createSecureContext(), {
    rejectUnauthorized: false,
    checkServerIdentity: () => undefined,
  });
}

/** Who is at the other end of a connection. */
export interface PeerIdentity {
  nodeId: string;
  role: CertificateRole;
  clusterId: string;
}

/** The part of a server call that tells about its connection. */
export interface AuthenticatedCall {
  getAuthContext(): { sslPeerCertificate?: { raw: Buffer } | undefined };
}

/** Who is at the other end of connections that calls have come over. */
const knownPeers = new WeakMap<object, { peer: PeerIdentity | undefined }>();

/** What the library's objects around a call are made of, as far as it concerns us; it may be otherwise one day. */
interface CallInside {
  call?: CallInside;
  nextCall?: CallInside;
  stream?: { session?: object | undefined };
}

/** The HTTP/2 session that a call came over, when the library shows it. */
function connectionOf(call: AuthenticatedCall): object | undefined {
  let inside: CallInside | undefined = (call as CallInside).call;
  while (inside?.nextCall !== undefined) inside = inside.nextCall;
  const session = inside?.stream?.session;
  return typeof session === 'object' ? session : undefined;
}

/**
 * The peer of a server call, from the certificate that its TLS handshake verified; undefined when there was none, when it
 * did not verify, or when it is no node's certificate. Read once per connection: reading a certificate takes longer than
 * the rest of a heartbeat.
 */
export function peerIdentity(call: AuthenticatedCall): PeerIdentity | undefined {
  const connection = connectionOf(call);
  const known = connection === undefined ? undefined : knownPeers.get(connection);
  if (known !== undefined) return known.peer;
  const peer = certificateIdentity(call.getAuthContext().sslPeerCertificate?.raw);
  if (connection !== undefined) knownPeers.set(connection, { peer });
  return peer;
}

/** Who a certificate (DER) is for; undefined without one, or when it is no node's. It must have been verified before. */
export function certificateIdentity(raw: Uint8Array | undefined): PeerIdentity | undefined {
  if (raw === undefined) return undefined;
  const { subject } = parseCertificate(raw);
  const role = roleOfUnits(subject.organizationalUnits);
  if (role === undefined || subject.commonName === '' || subject.organization === '') return undefined;
  return { nodeId: subject.commonName, role, clusterId: subject.organization };
}
