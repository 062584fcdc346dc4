import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../base/index.ts';
import { RaftMember, RaftMessageType } from '../proto/index.ts';
import { raftMessage } from './core/index.ts';
import { PENDING_PROPOSALS_MAX, PROPOSAL_BYTES_MAX, RaftNode } from './index.ts';
import type { RaftNodeOptions, RaftTransport, StateMachine } from './index.ts';
import { VirtualDisk } from './sim/disk.ts';
import { SnapshotAssembler, splitSnapshot } from './transport/snapshot-chunks.ts';
import { Wal } from './wal/wal.ts';

const noTransport: RaftTransport = {
  attach: () => undefined,
  send: () => undefined,
  addPeer: () => undefined,
  updatePeer: () => undefined,
  removePeer: () => undefined,
  stop: () => Promise.resolve(),
};

function machine(): StateMachine & { count: number } {
  return {
    count: 0,
    apply(entries) {
      this.count += entries.length;
    },
    applyConfChange: () => undefined,
    snapshot: () => new Uint8Array(1),
    restore: () => undefined,
  };
}

function options(overrides: Partial<RaftNodeOptions> = {}): RaftNodeOptions {
  const disk = new VirtualDisk(() => undefined);
  return {
    id: 1,
    dir: '',
    clock: new VirtualClock(),
    random: new SeededRandom(1),
    log: silentLogger,
    transport: noTransport,
    stateMachine: machine(),
    onFatal: (error) => {
      throw error;
    },
    openStorage: () => disk.open(),
    ...overrides,
  };
}

const bootstrap = { kind: 'bootstrap' as const, member: RaftMember.create({ raft_id: 1, addr: 'a:1' }) };

test('a group of one leads at once, without waiting for a tick', async () => {
  const node = await RaftNode.start(options(), bootstrap);
  const changes = node.changes.subscribe();
  await changes[Symbol.asyncIterator]().next();
  expect(node.status()).toMatchObject({ role: 'leader', leaderId: 1, voters: [1] });
  await expect(node.propose(Buffer.from('x'))).resolves.toBe(3);
  await expect(node.readIndex()).resolves.toBe(3);
  await node.stop();
  await expect(node.propose(Buffer.from('x'))).rejects.toMatchObject({ code: 'Unavailable' });
});

test('proposals are bounded in number and size', async () => {
  const node = await RaftNode.start(options({ schedule: () => undefined }), bootstrap);
  node.core.campaign();
  expect(node.core.role).toBe('leader');
  const waiting = Array.from({ length: PENDING_PROPOSALS_MAX }, () =>
    node.propose(Buffer.from('x')).catch((error: unknown) => error),
  );
  await expect(node.propose(Buffer.from('x'))).rejects.toMatchObject({ code: 'ResourceExhausted' });
  await expect(node.propose(new Uint8Array(PROPOSAL_BYTES_MAX + 1))).rejects.toMatchObject({ code: 'InvalidArgument' });
  await expect(node.propose(new Uint8Array(0))).rejects.toMatchObject({ code: 'InvalidArgument' });
  await node.stop();
  for (const result of await Promise.all(waiting)) expect(result).toMatchObject({ code: 'Unavailable' });
});

test('a full disk stops the member and tells its owner; the log is whole afterwards', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'shoal-full-'));
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'tmpfs', dir]);
  try {
    const fatal: unknown[] = [];
    const openStorage: NonNullable<RaftNodeOptions['openStorage']> = () => {
      const { wal, recovered } = Wal.open({ dir, nodeId: 1, segmentBytes: 400 * 1024 });
      return { storage: wal, recovered };
    };
    const node = await RaftNode.start(options({ openStorage, onFatal: (error) => fatal.push(error) }), bootstrap);
    let acknowledged = 0;
    let refused: unknown;
    for (let i = 0; i < 100 && refused === undefined; i++) {
      await node.propose(new Uint8Array(20_000).fill(1)).then(
        () => {
          acknowledged++;
        },
        (error: unknown) => {
          refused = error;
        },
      );
      if (acknowledged === 0 && refused !== undefined) {
        // Not leading yet in the first turn.
        refused = undefined;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    expect(fatal).toMatchObject([{ code: 'ENOSPC' }]);
    expect(refused).toMatchObject({ code: 'Unavailable' });
    const { wal, recovered } = Wal.open({ dir, nodeId: 1, segmentBytes: 400 * 1024 });
    expect(recovered.entries.filter((entry) => entry.data.length === 20_000)).toHaveLength(acknowledged);
    wal.close();
  } finally {
    // Lazily: the log may still be zeroing a spare segment in the background.
    execFileSync('umount', ['-l', dir]);
    rmSync(dir, { recursive: true });
  }
});

test('a state machine that throws is fatal, not skipped', async () => {
  const fatal: unknown[] = [];
  const stateMachine = { ...machine(), apply: () => expect.fail('bad command') };
  const node = await RaftNode.start(options({ stateMachine, onFatal: (error) => fatal.push(error) }), bootstrap);
  await node.changes.subscribe()[Symbol.asyncIterator]().next();
  await expect(node.propose(Buffer.from('x'))).rejects.toMatchObject({ code: 'Unavailable' });
  expect(fatal).toHaveLength(1);
});

test('a snapshot goes in pieces and comes together again', () => {
  const metadata = { index: 9, term: 2, conf_state: null };
  const data = Buffer.from(Array.from({ length: 1000 }, (_, i) => i % 251));
  const message = raftMessage({ type: RaftMessageType.MsgSnap, from: 1, to: 2, snapshot: { data, metadata } });
  for (const size of [1, 7, 999, 1000, 5000]) {
    const assembler = new SnapshotAssembler();
    const pieces = [...splitSnapshot(message, size)];
    expect(pieces).toHaveLength(Math.ceil(1000 / size));
    for (const piece of pieces) expect(assembler.push(piece)).toEqual([]);
    const [whole, ...rest] = assembler.end();
    expect(rest).toEqual([]);
    expect(Buffer.from(whole?.snapshot?.data ?? []).equals(data)).toBe(true);
  }
  const empty = { ...message, snapshot: { data: new Uint8Array(0), metadata } };
  expect([...splitSnapshot(empty)]).toHaveLength(1);
});
