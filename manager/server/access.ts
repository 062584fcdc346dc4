import { Metadata } from '@grpc/grpc-js';
import { ShoalError } from '../../base/index.ts';
import { peerIdentity, roleOfUnits, type AuthenticatedCall, type PeerIdentity } from '../../identity/index.ts';
import type { Access, Caller } from './calls.ts';

/** Metadata of a call that another manager forwards (swarmkit.md §1.14). */
const KEY = {
  redirect: 'redirect',
  forwarded: 'forwarded_cert',
  commonName: 'forwarded_cert_cn',
  organization: 'forwarded_cert_org',
  unit: 'forwarded_cert_ou',
  address: 'remote_addr',
} as const;

export interface IncomingCall extends AuthenticatedCall {
  readonly metadata: Metadata;
  getPeer(): string;
}

/** What a server must know to tell whom it trusts. */
export interface TrustPolicy {
  readonly clusterId: string;
  /** Whether a node's certificate is refused because it was removed. */
  isRemoved(nodeId: string): boolean;
}

const first = (metadata: Metadata, key: string): string => {
  const value = metadata.get(key)[0];
  return typeof value === 'string' ? value : '';
};

const trusted = (peer: PeerIdentity | undefined, policy: TrustPolicy): PeerIdentity | undefined =>
  peer !== undefined && peer.clusterId === policy.clusterId && !policy.isRemoved(peer.nodeId) ? peer : undefined;

/** The peer that the forwarding manager vouches for, from the metadata. */
function forwardedPeer(metadata: Metadata): PeerIdentity | undefined {
  if (first(metadata, KEY.forwarded) !== 'true') return undefined;
  const role = roleOfUnits(metadata.get(KEY.unit).map(String));
  const [nodeId, clusterId] = [first(metadata, KEY.commonName), first(metadata, KEY.organization)];
  return role === undefined || nodeId === '' ? undefined : { nodeId, role, clusterId };
}

/** A peer as grpc-js gives it (`host:port`, IPv6 without brackets) as `host:port` or `[v6]:port`; mapped IPv4 is plain. */
export function peerAddress(peer: string): string {
  const end = peer.lastIndexOf(':');
  if (end === -1) return peer;
  const host = peer.slice(0, end).replace(/^::ffff:(?=\d+\.)/i, '');
  return host.includes(':') && !host.startsWith('[') ? `[${host}]${peer.slice(end)}` : host + peer.slice(end);
}

/** The caller of a call, and whether a manager forwarded it. Forwarding counts only from a manager of this cluster. */
export function callerOf(call: IncomingCall, policy: TrustPolicy): { caller: Caller; forwarded: boolean } {
  const direct = trusted(peerIdentity(call), policy);
  const forwarded = first(call.metadata, KEY.redirect) !== '' && direct?.role === 'manager';
  const peer = forwarded ? trusted(forwardedPeer(call.metadata), policy) : direct;
  const address = (forwarded && first(call.metadata, KEY.address)) || peerAddress(call.getPeer());
  return { caller: { nodeId: peer?.nodeId ?? '', role: peer?.role, address }, forwarded };
}

/** Metadata with which this manager forwards a call to the leader. */
export function forwardingMetadata(caller: Caller, clusterId: string, selfAddr: string): Metadata {
  const metadata = new Metadata();
  metadata.set(KEY.redirect, selfAddr);
  metadata.set(KEY.address, caller.address);
  if (caller.role === undefined) return metadata;
  metadata.set(KEY.forwarded, 'true');
  metadata.set(KEY.commonName, caller.nodeId);
  metadata.set(KEY.organization, clusterId);
  metadata.set(KEY.unit, caller.role === 'manager' ? 'swarm-manager' : 'swarm-worker');
  return metadata;
}

/** @throws ShoalError PermissionDenied when the caller may not use a method of this access. */
export function authorise(caller: Caller, access: Access): void {
  if (access === 'public') return;
  if (caller.role === undefined) {
    throw new ShoalError('PermissionDenied', 'the call needs the certificate of a node of this cluster');
  }
  if (access === 'manager' && caller.role !== 'manager') {
    throw new ShoalError('PermissionDenied', `node ${caller.nodeId} is a worker; the call needs a manager`);
  }
}
