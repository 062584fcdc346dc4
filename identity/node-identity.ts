import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { readFileIfExists, ShoalError, syncDirectory, writeFileDurably } from '../base/index.ts';
import { fromPem } from './der.ts';
import { parseCertificate, roleOfUnits, type CertificateRole } from './x509.ts';

/** Who a node is, proved by its certificate. All certificates and keys are PEM. */
export interface NodeIdentity {
  nodeId: string;
  clusterId: string;
  role: CertificateRole;
  /** Chain, leaf first. */
  cert: string;
  /** Private key, PKCS#8. */
  key: string;
  /** Root bundle of the cluster, byte for byte as served. */
  rootCa: string;
  /** Start of validity, ms since the epoch. */
  notBeforeMs: number;
  /** End of validity, ms since the epoch. */
  expiryMs: number;
}

/** The identity that a certificate proves. @throws ShoalError InvalidArgument when it is no node's certificate. */
export function identityFromPem(cert: string, key: string, rootCa: string): NodeIdentity {
  const parsed = parseCertificate(cert);
  const role = roleOfUnits(parsed.subject.organizationalUnits);
  const { commonName: nodeId, organization: clusterId } = parsed.subject;
  if (role === undefined || nodeId === '' || clusterId === '') {
    throw new ShoalError('InvalidArgument', 'the certificate names no swarm node: CN, O and OU are mandatory');
  }
  return { nodeId, clusterId, role, cert, key, rootCa, notBeforeMs: parsed.notBeforeMs, expiryMs: parsed.notAfterMs };
}

function paths(stateDir: string): { dir: string; root: string; cert: string; key: string; nextKey: string } {
  const dir = join(stateDir, 'certificates');
  return {
    dir,
    root: join(dir, 'swarm-root-ca.crt'),
    cert: join(dir, 'swarm-node.crt'),
    key: join(dir, 'swarm-node.key'),
    nextKey: join(dir, 'swarm-node.key.next'),
  };
}

/**
 * Stores an identity in `<stateDir>/certificates` (Docker's file names). The new key lies beside the old one until the
 * certificate is replaced, so a crash between the two writes loses neither pair.
 */
export function saveIdentity(stateDir: string, identity: NodeIdentity): void {
  const files = paths(stateDir);
  mkdirSync(files.dir, { recursive: true, mode: 0o700 });
  writeFileDurably(files.root, identity.rootCa, 0o644);
  writeFileDurably(files.nextKey, identity.key, 0o600);
  writeFileDurably(files.cert, identity.cert, 0o644);
  renameSync(files.nextKey, files.key);
  syncDirectory(files.dir);
}

const fits = (cert: string, key: string): boolean => new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));

/**
 * The stored identity, or undefined when there is none.
 * @throws ShoalError DataLoss when the files do not belong together; InvalidArgument when they cannot be read.
 */
export function loadIdentity(stateDir: string): NodeIdentity | undefined {
  const files = paths(stateDir);
  const [rootCa, cert] = [readFileIfExists(files.root), readFileIfExists(files.cert)];
  if (rootCa === undefined || cert === undefined) return undefined;
  const key = readFileIfExists(files.key);
  if (key !== undefined && fits(cert, key)) return identityFromPem(cert, key, rootCa);
  const nextKey = readFileIfExists(files.nextKey);
  if (nextKey !== undefined && fits(cert, nextKey)) {
    renameSync(files.nextKey, files.key);
    syncDirectory(files.dir);
    return identityFromPem(cert, nextKey, rootCa);
  }
  throw new ShoalError(
    'DataLoss',
    `the private key in ${files.dir} does not fit the certificate; remove the directory and join the node again`,
  );
}

/**
 * What a node reports of its TLS set-up (the fields of `NodeTLSInfo`): the roots it trusts, and subject (DER) and public
 * key (DER SPKI) of the authority that signed its certificate. A root rotation waits until all nodes report the new one.
 */
export function tlsInfoOf(identity: NodeIdentity): {
  trust_root: Uint8Array;
  cert_issuer_subject: Uint8Array;
  cert_issuer_public_key: Uint8Array;
} {
  const leaf = new X509Certificate(identity.cert);
  const candidates = [...fromPem('CERTIFICATE', identity.cert).slice(1), ...fromPem('CERTIFICATE', identity.rootCa)];
  const issuer = candidates.find((der) => {
    const certificate = new X509Certificate(der);
    return leaf.checkIssued(certificate) && leaf.verify(certificate.publicKey);
  });
  return {
    trust_root: Buffer.from(identity.rootCa),
    cert_issuer_subject: parseCertificate(identity.cert).issuerDer,
    cert_issuer_public_key: issuer === undefined ? new Uint8Array() : parseCertificate(issuer).publicKeyDer,
  };
}

/** Forgets the stored identity (the node left its cluster). */
export function removeIdentity(stateDir: string): void {
  rmSync(paths(stateDir).dir, { recursive: true, force: true });
}
