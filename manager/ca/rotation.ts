import { createHash } from 'node:crypto';
import type { Clock, Logger, Random } from '../../base/index.ts';
import { createRootCa, crossSign, issuerInfo, makeJoinToken, type KeyedCertificate } from '../../identity/index.ts';
import { Cluster, IssuanceStatus_State, Node, type RootCA } from '../../proto/index.ts';
import type { LeaderDuty, ReadView, Store, Transaction } from '../store/types.ts';
import { clusterOf } from './bootstrap.ts';

/** Time between two looks at a running root rotation, ms. */
const ROTATION_PASS_MS = 1_000;
/** Nodes told to renew in one look, so that they do not all come at once. */
const ROTATION_NODES_PER_PASS = 30;

export interface RootRotationDeps {
  store: Store;
  clock: Clock;
  random: Random;
  log: Logger;
  /** Called when the root certificates have changed. */
  onRotated?: () => void;
}

const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();

/** Replaces join tokens in a cluster object that the caller owns (a clone). */
export function rotateJoinTokens(
  cluster: Cluster,
  which: { worker?: boolean; manager?: boolean },
  random: Random,
): void {
  const tokens = cluster.root_ca?.join_tokens;
  if (cluster.root_ca === null || tokens === null || tokens === undefined) return;
  const root = text(cluster.root_ca.ca_cert);
  if (which.worker === true) tokens.worker = makeJoinToken(root, random);
  if (which.manager === true) tokens.manager = makeJoinToken(root, random);
}

/**
 * Begins a root rotation in a cluster object that the caller owns: from now on certificates are signed by a new authority
 * (a made one unless given) and carry its cross-signed certificate. The rotation duty ends it.
 */
export function beginRootRotation(
  cluster: Cluster,
  options: { nowMs: number; random: Random; rootCa?: KeyedCertificate | undefined },
): void {
  const root = cluster.root_ca;
  if (root === null) return;
  const fresh = options.rootCa ?? createRootCa(options);
  root.last_forced_rotation = cluster.spec?.ca_config?.force_rotate ?? root.last_forced_rotation;
  root.root_rotation = {
    ca_cert: Buffer.from(fresh.cert),
    ca_key: Buffer.from(fresh.key),
    cross_signed_ca_cert: Buffer.from(
      crossSign({
        newRootCert: fresh.cert,
        oldCert: text(root.ca_cert),
        oldKey: text(root.ca_key),
        random: options.random,
      }),
    ),
  };
}

/** What signs now: the root, or the coming one with its link to the present one. */
export function signerOf(root: RootCA): { caCert: string; caKey: string; intermediates: string } {
  const rotation = root.root_rotation;
  if (rotation === null) return { caCert: text(root.ca_cert), caKey: text(root.ca_key), intermediates: '' };
  return {
    caCert: text(rotation.ca_cert),
    caKey: text(rotation.ca_key),
    intermediates: text(rotation.cross_signed_ca_cert),
  };
}

function hasIssuer(node: Node, issuer: ReturnType<typeof issuerInfo>): boolean {
  const info = node.description?.tls_info;
  if (info === null || info === undefined) return false;
  const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
  return same(info.cert_issuer_subject, issuer.subject) && same(info.cert_issuer_public_key, issuer.publicKey);
}

/** Nodes whose certificate was not signed by the coming root. */
function laggards(view: ReadView, rotation: NonNullable<RootCA['root_rotation']>): Node[] {
  const issuer = issuerInfo(text(rotation.ca_cert));
  return view.list('node').filter((node) => !hasIssuer(node, issuer));
}

function finish(tx: Transaction, random: Random): void {
  const stored = clusterOf(tx);
  if (stored === undefined) return;
  const cluster = Cluster.clone(stored);
  const root = cluster.root_ca;
  const rotation = root?.root_rotation ?? null;
  if (root === null || rotation === null) return;
  root.ca_cert = rotation.ca_cert;
  root.ca_key = rotation.ca_key;
  root.ca_cert_hash = `sha256:${createHash('sha256').update(rotation.ca_cert).digest('hex')}`;
  root.root_rotation = null;
  rotateJoinTokens(cluster, { worker: true, manager: true }, random);
  tx.update('cluster', cluster);
}

/** Marks a node's certificate so that its agent renews it. */
export function demandRenewal(tx: Transaction, stored: Node): void {
  const node = Node.clone(stored);
  if (node.certificate === null) return;
  node.certificate.status = { state: IssuanceStatus_State.ROTATE, err: '' };
  tx.update('node', node);
}

/** The authority that a user gave to rotate to, if both of its parts are there. */
function givenAuthority(cluster: Cluster): KeyedCertificate | undefined {
  const config = cluster.spec?.ca_config;
  if (!config || config.signing_ca_cert.length === 0 || config.signing_ca_key.length === 0) return undefined;
  return { cert: text(config.signing_ca_cert), key: text(config.signing_ca_key) };
}

/** Whether a user asked for a rotation (`swarm ca --rotate`) that has not begun. */
function isAskedFor(cluster: Cluster | undefined): cluster is Cluster {
  const root = cluster?.root_ca;
  if (!root || root.root_rotation !== null) return false;
  return (cluster?.spec?.ca_config?.force_rotate ?? 0) > root.last_forced_rotation;
}

function begin(tx: Transaction, nowMs: number, random: Random): void {
  const stored = clusterOf(tx);
  if (!isAskedFor(stored)) return;
  const cluster = Cluster.clone(stored);
  beginRootRotation(cluster, { nowMs, random, rootCa: givenAuthority(cluster) });
  tx.update('cluster', cluster);
}

async function rotationPass({ store, clock, random, log, onRotated }: RootRotationDeps): Promise<void> {
  if (isAskedFor(clusterOf(store.view()))) {
    await store.update((tx) => begin(tx, clock.now(), random));
    log.info('a rotation of the root certificate begins');
  }
  const rotation = clusterOf(store.view())?.root_ca?.root_rotation;
  if (rotation === null || rotation === undefined) return;
  if (laggards(store.view(), rotation).length === 0) {
    await store.update((tx) => finish(tx, random));
    log.info('the root certificate was rotated');
    onRotated?.();
    return;
  }
  await store.update((tx) => {
    const pending = laggards(tx, rotation).filter(
      (node) => node.certificate?.status?.state !== IssuanceStatus_State.ROTATE,
    );
    for (const node of pending.slice(0, ROTATION_NODES_PER_PASS)) demandRenewal(tx, node);
  });
}

/** The leader's duty that begins a root rotation when asked and carries it through (swarmkit.md §1.12). Down nodes block it. */
export function createRootRotation(deps: RootRotationDeps): LeaderDuty {
  return {
    name: 'root-rotation',
    async run(signal) {
      while (!signal.aborted) {
        try {
          await rotationPass(deps);
        } catch (error) {
          if (!signal.aborted) deps.log.warn('a pass of the root rotation failed; it is repeated', { error });
        }
        await deps.clock.sleep(ROTATION_PASS_MS, signal).catch(() => undefined);
      }
    },
  };
}
