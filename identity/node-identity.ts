import { X509Certificate } from 'node:crypto';
import { ShoalError } from '../base/index.ts';
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

/** Subject (DER) and public key (DER SPKI) of an authority, as nodes report them in `NodeTLSInfo`. */
export function issuerInfo(caCertPem: string): { subject: Uint8Array; publicKey: Uint8Array } {
  const parsed = parseCertificate(caCertPem);
  return { subject: parsed.subjectDer, publicKey: parsed.publicKeyDer };
}
