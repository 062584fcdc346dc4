import { execFileSync } from 'node:child_process';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  createCsr,
  createRootCa,
  crossSign,
  DEFAULT_CERTIFICATE_LIFETIME_MS,
  issueCertificate,
  parseCertificate,
  verifyChain,
  verifyCsr,
} from './x509.ts';
import { issuerInfo } from './node-identity.ts';

const nowMs = Date.now();
let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'shoal-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

const file = (name: string, text: string): string => {
  const path = join(dir, name);
  writeFileSync(path, text);
  return path;
};
const openssl = (...args: string[]): string => execFileSync('openssl', args, { encoding: 'utf8', stdio: 'pipe' });

function leaf(role: 'manager' | 'worker', ca = createRootCa({ nowMs }), lifetimeMs = 3 * 3_600_000) {
  const { csr, key } = createCsr();
  const cert = issueCertificate({
    csr,
    nodeId: 'node1',
    clusterId: 'cluster1',
    role,
    caCert: ca.cert,
    caKey: ca.key,
    nowMs,
    lifetimeMs,
  });
  return { ca, csr, key, cert };
}

describe('certificates', () => {
  it('a root verifies itself and lives 20 years', () => {
    const root = createRootCa({ nowMs });
    const x = new X509Certificate(root.cert);
    expect(x.ca).toBe(true);
    expect(x.verify(x.publicKey)).toBe(true);
    expect(x.subject).toBe('CN=swarm-ca');
    const { notAfterMs } = parseCertificate(root.cert);
    expect(Math.abs(notAfterMs - nowMs - 630_720_000_000)).toBeLessThan(1000);
    expect(openssl('x509', '-noout', '-text', '-in', file('root.pem', root.cert))).toContain('ASN1 OID: prime256v1');
  });

  it('openssl accepts leaves for both purposes and shows the profile', () => {
    const { ca, cert } = leaf('manager');
    const [root, path] = [file('ca.pem', ca.cert), file('leaf.pem', cert)];
    for (const purpose of ['sslserver', 'sslclient']) {
      expect(openssl('verify', '-x509_strict', '-purpose', purpose, '-CAfile', root, path)).toContain('OK');
    }
    const text = openssl('x509', '-noout', '-text', '-in', path);
    expect(text).toContain('DNS:swarm-manager, DNS:node1, DNS:swarm-ca');
    expect(text).toContain('TLS Web Server Authentication, TLS Web Client Authentication');
    expect(text).toContain('Digital Signature, Key Encipherment');
    expect(text).toMatch(/Subject: O ?= ?cluster1, OU ?= ?swarm-manager, CN ?= ?node1/);
  });

  it('a worker has no authority name, and validity starts an hour ago', () => {
    const { cert, ca } = leaf('worker');
    expect(new X509Certificate(cert).subjectAltName).toBe('DNS:swarm-worker, DNS:node1');
    const parsed = parseCertificate(cert);
    expect(parsed.subject).toEqual({
      commonName: 'node1',
      organization: 'cluster1',
      organizationalUnits: ['swarm-worker'],
    });
    expect(parsed.notBeforeMs).toBe(Math.floor((nowMs - 3_600_000) / 1000) * 1000);
    expect(issuerInfo(ca.cert).subject).toEqual(parsed.issuerDer);
  });

  it('a life below one hour becomes the default', () => {
    const parsed = parseCertificate(leaf('worker', undefined, 60_000).cert);
    expect(Math.abs(parsed.notAfterMs - nowMs - DEFAULT_CERTIFICATE_LIFETIME_MS)).toBeLessThan(1000);
  });

  it('dates from 2050 on are written in the long form', () => {
    const root = createRootCa({ nowMs: Date.UTC(2045, 0, 1) });
    expect(parseCertificate(root.cert).notAfterMs).toBe(Date.UTC(2045, 0, 1) + 630_720_000_000);
    expect(new X509Certificate(root.cert).validTo).toContain('2064');
  });
});

describe('signing requests', () => {
  it('openssl verifies ours, and we verify those of openssl', () => {
    const { csr } = createCsr();
    execFileSync('openssl', ['req', '-verify', '-noout', '-in', file('csr.pem', csr)], { stdio: 'pipe' });
    const keyPath = join(dir, 'k.pem');
    openssl('ecparam', '-name', 'prime256v1', '-genkey', '-noout', '-out', keyPath);
    const theirs = openssl('req', '-new', '-key', keyPath, '-subj', '/CN=x', '-addext', 'subjectAltName=DNS:y');
    expect(verifyCsr(theirs).length).toBeGreaterThan(60);
  });

  it('refuses a changed or malformed request', () => {
    const { csr } = createCsr();
    const body = Buffer.from(csr.split('\n').slice(1, -2).join(''), 'base64');
    body[40] = (body[40] as number) ^ 1;
    const changed = `-----BEGIN CERTIFICATE REQUEST-----\n${body.toString('base64')}\n-----END CERTIFICATE REQUEST-----\n`;
    expect(() => verifyCsr(changed)).toThrow(/certificate signing request is invalid/);
    for (const bad of ['', 'x', '-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n']) {
      expect(() => verifyCsr(bad)).toThrow();
    }
  });
});

describe('chains', () => {
  it('accepts its own root and key only, within its validity', () => {
    const { ca, cert, key } = leaf('worker');
    verifyChain(cert, ca.cert, nowMs, key);
    expect(() => verifyChain(cert, createRootCa({ nowMs }).cert, nowMs)).toThrow(/does not lead to a root/);
    expect(() => verifyChain(cert, ca.cert, nowMs, createCsr().key)).toThrow(/does not fit the private key/);
    expect(() => verifyChain(cert, ca.cert, nowMs + 4 * 3_600_000)).toThrow(/expired/);
    expect(() => verifyChain(cert, ca.cert, nowMs - 2 * 3_600_000)).toThrow(/not valid yet/);
  });

  it('a cross-signed root links a new leaf to the old root', () => {
    const [old, fresh] = [createRootCa({ nowMs }), createRootCa({ nowMs })];
    const link = crossSign({ newRootCert: fresh.cert, oldCert: old.cert, oldKey: old.key });
    const { cert } = leaf('worker', fresh);
    verifyChain(cert + link, old.cert, nowMs);
    verifyChain(cert + link, fresh.cert, nowMs);
    expect(
      openssl('verify', '-CAfile', file('o.pem', old.cert), '-untrusted', file('x.pem', link), file('l.pem', cert)),
    ).toContain('OK');
  });

  it('signs with an RSA authority too', () => {
    const keyPath = join(dir, 'rsa.pem');
    const certPath = join(dir, 'rsa.crt');
    openssl(
      'req',
      '-x509',
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-keyout',
      keyPath,
      '-out',
      certPath,
      '-subj',
      '/CN=corp',
      '-days',
      '2',
    );
    const ca = {
      cert: execFileSync('cat', [certPath], { encoding: 'utf8' }),
      key: execFileSync('cat', [keyPath], { encoding: 'utf8' }),
    };
    expect(createPrivateKey(ca.key).asymmetricKeyType).toBe('rsa');
    const { cert } = leaf('manager', ca);
    expect(openssl('verify', '-CAfile', certPath, file('rl.pem', cert))).toContain('OK');
  });
});
