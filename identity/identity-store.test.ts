/** What lies in `certificates/`: identities, their lock, and how crashes leave them. */
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemRandom } from '../base/index.ts';
import {
  createCsr,
  createRootCa,
  identityFromPem,
  IdentityStore,
  issueCertificate,
  type NodeIdentity,
} from './index.ts';

const nowMs = Date.now();
const ca = createRootCa({ nowMs });

function identity(nodeId: string, role: 'manager' | 'worker' = 'manager'): NodeIdentity {
  const { csr, key } = createCsr();
  const fields = { caCert: ca.cert, caKey: ca.key, nowMs, lifetimeMs: 3_600_000 };
  return identityFromPem(issueCertificate({ csr, nodeId, clusterId: 'c', role, ...fields }), key, ca.cert);
}

let dir: string;
let store: IdentityStore;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'shoal-'));
  store = new IdentityStore(dir);
});
afterEach(() => rmSync(dir, { recursive: true }));

const path = (name: string): string => join(dir, 'certificates', name);
const keyText = (): string => readFileSync(path('swarm-node.key'), 'utf8');

/** What the next daemon finds. */
function reload(): IdentityStore {
  const fresh = new IdentityStore(dir);
  fresh.load();
  return fresh;
}

describe('an identity without lock', () => {
  it('is the same after a restart, and absent before', () => {
    expect(store.load()).toBe('absent');
    const one = identity('n1');
    store.save(one);
    expect(store.identity).toEqual(one);
    expect(reload().identity).toEqual(one);
    expect(readdirSync(join(dir, 'certificates')).sort()).toEqual([
      'swarm-node.crt',
      'swarm-node.key',
      'swarm-root-ca.crt',
    ]);
    expect(statSync(path('swarm-node.key')).mode & 0o777).toBe(0o600);
    store.remove();
    expect([store.state, reload().state]).toEqual(['absent', 'absent']);
  });

  it('survives a crash between the writes of a renewal', () => {
    const [before, after] = [identity('n1'), identity('n1')];
    store.save(before);
    writeFileSync(path('swarm-node.key.next'), after.key);
    expect(reload().identity).toEqual(before);
    // The key of a renewal that came to nothing is gone.
    expect(readdirSync(join(dir, 'certificates'))).not.toContain('swarm-node.key.next');
    writeFileSync(path('swarm-node.key.next'), after.key);
    writeFileSync(path('swarm-node.crt'), after.cert);
    expect(reload().identity).toEqual(after);
    expect(reload().identity).toEqual(after);
    renameSync(path('swarm-root-ca.crt'), path('x'));
    expect(reload().identity).toBeUndefined();
  });

  it('refuses a key that does not fit', () => {
    store.save(identity('n1'));
    writeFileSync(path('swarm-node.key'), createCsr().key);
    expect(() => reload()).toThrow(/does not fit the certificate/);
  });

  it('reads a key file of a version that knew no headers', () => {
    const one = identity('n1');
    store.save(one);
    writeFileSync(path('swarm-node.key'), one.key);
    expect(reload().identity).toEqual(one);
  });

  it('keeps secrets beside the key, over a renewal too, until they are removed', () => {
    store.save(identity('n1'), { headers: { first: Buffer.from('one'), second: Buffer.alloc(5000, 7) } });
    store.save(identity('n1'));
    expect(reload().header('first')).toEqual(Buffer.from('one'));
    expect(reload().header('second')).toEqual(Buffer.alloc(5000, 7));
    store.update({ headers: { first: null } });
    expect([reload().header('first'), reload().header('second')?.length]).toEqual([undefined, 5000]);
  });
});

describe('a lock', () => {
  const secret = Buffer.concat([Buffer.from([0, 10, 0]), systemRandom.bytes(29)]);
  const other = systemRandom.bytes(32);
  const content = Buffer.from('a secret of the manager');

  it('hides key and secrets until the unlock key is given', () => {
    const one = identity('n1');
    store.save(one, { lock: { secret, version: 7 }, headers: { deks: content } });
    expect(keyText()).toContain('BEGIN ENCRYPTED PRIVATE KEY');
    expect(keyText()).not.toContain(content.toString('base64'));
    const fresh = reload();
    expect([fresh.state, fresh.identity, fresh.header('deks')]).toEqual(['locked', undefined, undefined]);
    expect(fresh.unlock(other)).toBe(false);
    expect(fresh.state).toBe('locked');
    expect(fresh.unlock(secret)).toBe(true);
    expect([fresh.identity, fresh.header('deks'), fresh.lock]).toEqual([one, content, { secret, version: 7 }]);
  });

  it('stays over a renewal', () => {
    store.save(identity('n1'), { lock: { secret, version: 7 }, headers: { deks: content } });
    const renewed = identity('n1');
    store.save(renewed);
    const fresh = reload();
    expect(fresh.state).toBe('locked');
    expect(fresh.unlock(secret)).toBe(true);
    expect([fresh.identity, fresh.header('deks')]).toEqual([renewed, content]);
  });

  it('changes for all secrets at once, and goes', () => {
    const one = identity('n1');
    store.save(one, { headers: { deks: content } });
    store.update({ lock: { secret, version: 1 } });
    store.update({ lock: { secret: other, version: 2 } });
    const fresh = reload();
    expect(fresh.unlock(secret)).toBe(false);
    expect(fresh.unlock(other)).toBe(true);
    expect([fresh.identity, fresh.header('deks')]).toEqual([one, content]);
    fresh.update({ lock: { secret: null, version: 3 } });
    expect([reload().identity, reload().header('deks')]).toEqual([one, content]);
    expect(reload().lock).toEqual({ secret: null, version: 3 });
  });

  it('survives a crash in the midst of a renewal, a promotion and a demotion', () => {
    const [manager, renewed] = [identity('n1'), identity('n1')];
    const [demoted, before] = [identity('n1', 'worker'), identity('n1', 'worker')];
    const lock = { secret, version: 1 };
    /** The disk as it is when `save` gets no further than the certificate. */
    const torn = (from: NodeIdentity, to: NodeIdentity, locks: { was: boolean; will: boolean }): IdentityStore => {
      store.remove();
      store.save(from, { lock: locks.was ? lock : { secret: null, version: 0 } });
      const keep = readFileSync(path('swarm-node.key'));
      store.save(to, { lock: locks.will ? lock : { secret: null, version: 0 } });
      renameSync(path('swarm-node.key'), path('swarm-node.key.next'));
      writeFileSync(path('swarm-node.key'), keep);
      return reload();
    };
    const renewal = torn(manager, renewed, { was: true, will: true });
    expect(renewal.state).toBe('locked');
    expect([renewal.unlock(secret), renewal.identity]).toEqual([true, renewed]);
    const promotion = torn(before, manager, { was: false, will: true });
    expect(promotion.state).toBe('locked');
    expect([promotion.unlock(secret), promotion.identity]).toEqual([true, manager]);
    expect(torn(manager, demoted, { was: true, will: false }).identity).toEqual(demoted);
  });

  it('tells damaged secrets from a wrong key', () => {
    store.save(identity('n1'), { lock: { secret, version: 1 }, headers: { deks: content } });
    const bad = Buffer.alloc(60).toString('base64');
    writeFileSync(path('swarm-node.key'), keyText().replace(/^deks: .*$/m, `deks: ${bad}`));
    expect(() => reload().unlock(secret)).toThrow('damaged');
  });
});
