import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  sign,
  verify,
  X509Certificate,
  type KeyObject,
} from 'node:crypto';
import { errorMessage, ShoalError, systemRandom, type Random } from '../base/index.ts';
import {
  bitString,
  boolean,
  children,
  context,
  element,
  expectTag,
  fromPem,
  octetString,
  oid,
  readBitString,
  readOid,
  readText,
  readTime,
  readWhole,
  sequence,
  setOf,
  smallInteger,
  TAG,
  time,
  toPem,
  unsignedInteger,
  utf8String,
  type DerNode,
} from './der.ts';
import { remembered } from './remembered.ts';

/** A node's role as certificates state it. */
export type CertificateRole = 'manager' | 'worker';

/** Organizational unit of a role in a certificate. */
export const ROLE_UNIT: Readonly<Record<CertificateRole, string>> = {
  manager: 'swarm-manager',
  worker: 'swarm-worker',
};

/** Name under which a manager answers for the certificate authority. */
export const CA_SERVER_NAME = 'swarm-ca';
/** Name under which a manager answers for everything else. */
export const MANAGER_SERVER_NAME = 'swarm-manager';

const HOUR_MS = 3_600_000;
/** Life of a root certificate, ms: 20 years. */
export const ROOT_LIFETIME_MS = 630_720_000_000;
/** Default life of a node's certificate, ms: 90 days. */
export const DEFAULT_CERTIFICATE_LIFETIME_MS = 2160 * HOUR_MS;
/** Shorter lives are replaced by the default. */
export const MIN_CERTIFICATE_LIFETIME_MS = HOUR_MS;
/** How far the start of validity lies in the past, so that slow clocks accept it, ms. */
export const BACKDATE_MS = HOUR_MS;

const OID = {
  commonName: '2.5.4.3',
  organization: '2.5.4.10',
  organizationalUnit: '2.5.4.11',
  ecdsaWithSha256: '1.2.840.10045.4.3.2',
  rsaWithSha256: '1.2.840.113549.1.1.11',
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  subjectAltName: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  authorityKeyId: '2.5.29.35',
  extKeyUsage: '2.5.29.37',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const;

/** Hash of each signature algorithm accepted in a signing request. */
const CSR_HASHES: Readonly<Record<string, string>> = {
  '1.2.840.10045.4.3.2': 'sha256',
  '1.2.840.10045.4.3.3': 'sha384',
  '1.2.840.10045.4.3.4': 'sha512',
  '1.2.840.113549.1.1.11': 'sha256',
  '1.2.840.113549.1.1.12': 'sha384',
  '1.2.840.113549.1.1.13': 'sha512',
};

export interface DistinguishedName {
  commonName: string;
  organization: string;
  organizationalUnits: string[];
}

/** A certificate and its private key, both PEM (the key PKCS#8). */
export interface KeyedCertificate {
  cert: string;
  key: string;
}

function nameDer(parts: readonly (readonly [oid: string, value: string])[]): Buffer {
  return sequence(...parts.map(([type, value]) => setOf(sequence(oid(type), utf8String(value)))));
}

function readName(node: DerNode): DistinguishedName {
  const name: DistinguishedName = { commonName: '', organization: '', organizationalUnits: [] };
  for (const relative of children(expectTag(node, TAG.sequence))) {
    for (const attribute of children(relative)) {
      const [type, value] = children(attribute);
      if (type === undefined || value === undefined) continue;
      const id = readOid(type);
      if (id === OID.commonName) name.commonName = readText(value);
      else if (id === OID.organization) name.organization = readText(value);
      else if (id === OID.organizationalUnit) name.organizationalUnits.push(readText(value));
    }
  }
  return name;
}

function signatureAlgorithm(key: KeyObject): Buffer {
  if (key.asymmetricKeyType === 'ec') return sequence(oid(OID.ecdsaWithSha256));
  if (key.asymmetricKeyType === 'rsa') return sequence(oid(OID.rsaWithSha256), element(TAG.null));
  throw new ShoalError('InvalidArgument', 'a certificate authority needs an ECDSA or RSA key');
}

function signed(body: Buffer, key: KeyObject): Buffer {
  return sequence(body, signatureAlgorithm(key), bitString(sign('sha256', body, key)));
}

function spkiOf(key: KeyObject): Buffer {
  return createPublicKey(key.export({ type: 'pkcs8', format: 'pem' })).export({ type: 'spki', format: 'der' });
}

/** SHA-1 of the public key's bits, the usual key identifier (RFC 5280 §4.2.1.2). */
function keyIdentifier(spki: Uint8Array): Buffer {
  const [, bits] = children(readWhole(spki, TAG.sequence));
  return createHash('sha1')
    .update(readBitString(expectTag(bits, TAG.bitString)))
    .digest();
}

const extension = (id: string, critical: boolean, value: Uint8Array): Buffer =>
  sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(value));

function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'prime256v1' }).privateKey;
}

const keyPem = (key: KeyObject): string => key.export({ type: 'pkcs8', format: 'pem' }).toString();

interface BodyOptions {
  issuer: Uint8Array;
  subject: Uint8Array;
  spki: Uint8Array;
  notBeforeMs: number;
  notAfterMs: number;
  extensions: Uint8Array[];
  random: Random;
}

function certificateBody(options: BodyOptions, signer: KeyObject): Buffer {
  const serial = options.random.bytes(20);
  serial[0] = ((serial[0] as number) & 0x7f) | 0x40;
  return sequence(
    context(0, true, smallInteger(2)),
    unsignedInteger(serial),
    signatureAlgorithm(signer),
    options.issuer,
    sequence(time(options.notBeforeMs), time(options.notAfterMs)),
    options.subject,
    options.spki,
    context(3, true, sequence(...options.extensions)),
  );
}

/** Path length of a root: one intermediate, which a root rotation needs. */
function authorityExtensions(spki: Uint8Array): Buffer[] {
  return [
    // keyCertSign and cRLSign.
    extension(OID.keyUsage, true, bitString(Buffer.from([0x06]), 1)),
    extension(OID.basicConstraints, true, sequence(boolean(true))),
    extension(OID.subjectKeyId, false, octetString(keyIdentifier(spki))),
  ];
}

/** A new self-signed root: CN swarm-ca, ECDSA P-256, 20 years. */
export function createRootCa(options: { nowMs: number; random?: Random }): KeyedCertificate {
  const key = newKey();
  const spki = spkiOf(key);
  const name = nameDer([[OID.commonName, CA_SERVER_NAME]]);
  const body = certificateBody(
    {
      issuer: name,
      subject: name,
      spki,
      notBeforeMs: options.nowMs - BACKDATE_MS,
      notAfterMs: options.nowMs + ROOT_LIFETIME_MS,
      extensions: authorityExtensions(spki),
      random: options.random ?? systemRandom,
    },
    key,
  );
  return { cert: toPem('CERTIFICATE', signed(body, key)), key: keyPem(key) };
}

/** The subject and public key of one authority certified by another (the intermediate of a root rotation), PEM. */
export function crossSign(options: { newRootCert: string; oldCert: string; oldKey: string; random?: Random }): string {
  const fresh = parseCertificate(options.newRootCert);
  const old = parseCertificate(options.oldCert);
  const signer = createPrivateKey(options.oldKey);
  const extensions = [
    ...authorityExtensions(fresh.publicKeyDer),
    extension(OID.authorityKeyId, false, sequence(context(0, false, keyIdentifier(old.publicKeyDer)))),
  ];
  const body = certificateBody(
    {
      issuer: old.subjectDer,
      subject: fresh.subjectDer,
      spki: fresh.publicKeyDer,
      notBeforeMs: fresh.notBeforeMs,
      notAfterMs: Math.min(fresh.notAfterMs, old.notAfterMs),
      extensions,
      random: options.random ?? systemRandom,
    },
    signer,
  );
  return toPem('CERTIFICATE', signed(body, signer));
}

/** A new P-256 key and a signing request for it with an empty subject (PKCS#10, RFC 2986), both PEM. */
export function createCsr(): { csr: string; key: string } {
  const key = newKey();
  const body = sequence(smallInteger(0), sequence(), spkiOf(key), context(0, true));
  return { csr: toPem('CERTIFICATE REQUEST', signed(body, key)), key: keyPem(key) };
}

/**
 * Checks a signing request's own signature.
 * @returns its public key, DER SPKI.
 * @throws ShoalError InvalidArgument
 */
export function verifyCsr(csrPem: string): Buffer {
  const [der, more] = fromPem('CERTIFICATE REQUEST', csrPem);
  if (der === undefined || more !== undefined) throw badCsr('it holds no single PEM block CERTIFICATE REQUEST');
  const [info, algorithm, signature] = children(readWhole(der, TAG.sequence));
  const [, , spki] = children(expectTag(info, TAG.sequence));
  const [algorithmId] = children(expectTag(algorithm, TAG.sequence));
  const hash = algorithmId === undefined ? undefined : CSR_HASHES[readOid(algorithmId)];
  if (hash === undefined) throw badCsr('its signature algorithm is not ECDSA or RSA with SHA-2');
  const bits = readBitString(expectTag(signature, TAG.bitString));
  const publicDer = expectTag(spki, TAG.sequence).raw;
  let good: boolean;
  try {
    const publicKey = createPublicKey({ key: publicDer, type: 'spki', format: 'der' });
    good = verify(hash, (info as DerNode).raw, publicKey, bits);
  } catch (error) {
    throw badCsr(errorMessage(error));
  }
  if (!good) throw badCsr('its signature does not match its key');
  return Buffer.from(publicDer);
}

const badCsr = (why: string): ShoalError =>
  new ShoalError('InvalidArgument', `the certificate signing request is invalid: ${why}`);

export interface IssueOptions {
  /** The request, PEM; only its public key is used. */
  csr: string;
  nodeId: string;
  clusterId: string;
  role: CertificateRole;
  /** Certificate and key of the authority that signs, PEM. */
  caCert: string;
  caKey: string;
  /** Certificates appended to the leaf, PEM (a cross-signed root during a rotation). */
  intermediates?: string;
  nowMs: number;
  /** Validity from now on, ms; below one hour the default is taken. */
  lifetimeMs: number;
  random?: Random;
}

/** The authority that signs is the same time and again. */
const readSigner = {
  key: remembered((pem) => createPrivateKey(pem)),
  cert: remembered((pem) => parseCertificate(pem)),
};

/**
 * Signs a node's certificate (profile: swarmkit.md §1.5).
 * @returns PEM chain, leaf first.
 * @throws ShoalError InvalidArgument for a bad request.
 */
export function issueCertificate(options: IssueOptions): string {
  const spki = verifyCsr(options.csr);
  const [ca, signer] = [readSigner.cert(options.caCert), readSigner.key(options.caKey)];
  const unit = ROLE_UNIT[options.role];
  const names = [unit, options.nodeId, ...(options.role === 'manager' ? [CA_SERVER_NAME] : [])];
  const lifetimeMs =
    options.lifetimeMs < MIN_CERTIFICATE_LIFETIME_MS ? DEFAULT_CERTIFICATE_LIFETIME_MS : options.lifetimeMs;
  const extensions = [
    // digitalSignature and keyEncipherment.
    extension(OID.keyUsage, true, bitString(Buffer.from([0xa0]), 5)),
    extension(OID.extKeyUsage, false, sequence(oid(OID.serverAuth), oid(OID.clientAuth))),
    extension(OID.basicConstraints, true, sequence()),
    extension(OID.subjectKeyId, false, octetString(keyIdentifier(spki))),
    extension(OID.authorityKeyId, false, sequence(context(0, false, keyIdentifier(ca.publicKeyDer)))),
    extension(
      OID.subjectAltName,
      false,
      sequence(...names.map((name) => context(2, false, Buffer.from(name, 'ascii')))),
    ),
  ];
  const body = certificateBody(
    {
      issuer: ca.subjectDer,
      subject: nameDer([
        [OID.organization, options.clusterId],
        [OID.organizationalUnit, unit],
        [OID.commonName, options.nodeId],
      ]),
      spki,
      notBeforeMs: options.nowMs - BACKDATE_MS,
      notAfterMs: Math.min(options.nowMs + lifetimeMs, ca.notAfterMs),
      extensions,
      random: options.random ?? systemRandom,
    },
    signer,
  );
  return toPem('CERTIFICATE', signed(body, signer)) + (options.intermediates ?? '');
}

/** What we read of a certificate. */
export interface ParsedCertificate {
  subject: DistinguishedName;
  subjectDer: Buffer;
  issuer: DistinguishedName;
  issuerDer: Buffer;
  publicKeyDer: Buffer;
  notBeforeMs: number;
  notAfterMs: number;
  der: Buffer;
}

/** Reads the first certificate of a PEM text, or DER bytes. @throws ShoalError InvalidArgument */
export function parseCertificate(source: string | Uint8Array): ParsedCertificate {
  const der = typeof source === 'string' ? fromPem('CERTIFICATE', source)[0] : Buffer.from(source);
  if (der === undefined) throw new ShoalError('InvalidArgument', 'there is no PEM block CERTIFICATE');
  const [body] = children(readWhole(der, TAG.sequence));
  const fields = children(expectTag(body, TAG.sequence));
  // The version is explicit and optional; everything after it is in fixed order.
  const [, , issuer, validity, subject, spki] = fields[0]?.tag === 0xa0 ? fields.slice(1) : fields;
  const [from, to] = children(expectTag(validity, TAG.sequence));
  if (from === undefined || to === undefined) throw new ShoalError('InvalidArgument', 'a validity lacks its times');
  const issuerNode = expectTag(issuer, TAG.sequence);
  const subjectNode = expectTag(subject, TAG.sequence);
  return {
    subject: readName(subjectNode),
    subjectDer: subjectNode.raw,
    issuer: readName(issuerNode),
    issuerDer: issuerNode.raw,
    publicKeyDer: expectTag(spki, TAG.sequence).raw,
    notBeforeMs: readTime(from),
    notAfterMs: readTime(to),
    der,
  };
}

/** The role that a subject names, or undefined when it names none of ours. */
export function roleOfUnits(units: readonly string[]): CertificateRole | undefined {
  if (units.includes(ROLE_UNIT.manager)) return 'manager';
  if (units.includes(ROLE_UNIT.worker)) return 'worker';
  return undefined;
}

/**
 * Checks that a chain (leaf first, PEM) is valid now and ends in one of the roots, and that its key is `keyPem` if given.
 * @throws ShoalError FailedPrecondition that says what does not fit.
 */
export function verifyChain(chainPem: string, rootsPem: string, nowMs: number, key?: string): void {
  const fail = (why: string): ShoalError =>
    new ShoalError('FailedPrecondition', `the certificate chain is invalid: ${why}`);
  const chain = fromPem('CERTIFICATE', chainPem);
  const roots = fromPem('CERTIFICATE', rootsPem).map((der) => new X509Certificate(der));
  if (chain.length === 0) throw fail('it is empty');
  for (const der of chain) {
    const { notBeforeMs, notAfterMs } = parseCertificate(der);
    if (nowMs < notBeforeMs) throw fail('it is not valid yet; check the clocks of the nodes');
    if (nowMs > notAfterMs) throw fail('it has expired; check the clocks of the nodes, or join the node again');
  }
  const certificates = chain.map((der) => new X509Certificate(der));
  const leaf = certificates[0] as X509Certificate;
  if (key !== undefined && !leaf.checkPrivateKey(createPrivateKey(key))) throw fail('it does not fit the private key');
  const signedBy = (child: X509Certificate, parent: X509Certificate): boolean =>
    child.checkIssued(parent) && child.verify(parent.publicKey);
  let current = leaf;
  for (let depth = 0; depth <= certificates.length; depth++) {
    const link = current;
    if (roots.some((root) => signedBy(link, root))) return;
    const next = certificates.find((other) => other !== link && signedBy(link, other));
    if (next === undefined) break;
    current = next;
  }
  throw fail('it does not lead to a root certificate of this cluster');
}
