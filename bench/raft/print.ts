import type { RaftResult } from './result.ts';
import type { Cell } from './throughput.ts';

const MIB = 1024 * 1024;

function table(rows: readonly (readonly string[])[]): void {
  const columns = Math.max(...rows.map((row) => row.length));
  const widths = Array.from({ length: columns }, (_none, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)));
  for (const row of rows) {
    const cells = row.map((text, i) => (i === 0 ? text.padEnd(widths[i] ?? 0) : text.padStart(widths[i] ?? 0)));
    console.log(cells.join('  ').trimEnd());
  }
}

const NAMES = {
  write: 'writes',
  read: 'linearizable reads',
  null: 'null requests (a read without consensus)',
};

function cellRow(cell: Cell): string[] {
  const { shoal, etcd } = cell;
  const ours = [shoal.perSecond.toFixed(0), shoal.p50Ms.toFixed(2), shoal.p99Ms.toFixed(2)];
  const cpu = [shoal.membersCpuUs.toFixed(0), shoal.generatorCpuUs.toFixed(0)];
  const library = [cell.library.perSecond.toFixed(0), cell.library.p99Ms.toFixed(2)];
  const row = [`${cell.clients} client${cell.clients === 1 ? '' : 's'}`, ...ours, ...cpu];
  if (etcd === null) return [...row, ...library];
  const theirs = [etcd.perSecond.toFixed(0), etcd.p50Ms.toFixed(2), etcd.p99Ms.toFixed(2)];
  const theirCpu = [etcd.membersCpuUs.toFixed(0), etcd.generatorCpuUs.toFixed(0)];
  return [
    ...row,
    ...theirs,
    ...theirCpu,
    (cell.rateRatio ?? 0).toFixed(2),
    (cell.p99Ratio ?? 0).toFixed(2),
    ...library,
    (cell.libraryRateRatio ?? 0).toFixed(2),
  ];
}

function printThroughput(result: RaftResult): void {
  const { throughput } = result;
  if (throughput === null) return;
  const side = ['per s', 'p50 ms', 'p99 ms', 'CPU µs', 'load µs'];
  const beside = throughput.cells.some((cell) => cell.etcd !== null);
  console.log(
    `\nShoal${beside ? `, then etcd ${result.etcdVersion ?? ''}, then ours over etcd's` : ''}, then ours served through grpc-js (medians):`,
  );
  for (const operation of ['write', 'read', 'null'] as const) {
    const cells = throughput.cells.filter((cell) => cell.operation === operation);
    const head = [
      '',
      ...side,
      ...(beside ? [...side, 'rate ×', 'p99 ×'] : []),
      'grpc-js/s',
      'p99 ms',
      ...(beside ? ['rate ×'] : []),
    ];
    console.log(`\n${NAMES[operation]}`);
    table([head, ...cells.map(cellRow)]);
  }
  const { shoal, etcd } = throughput.elections;
  console.log(`\nElections during all loads: ${shoal}${etcd === null ? '' : `, etcd ${etcd}`}`);
}

/** Prints the whole result. */
export function printRaft(result: RaftResult): void {
  printThroughput(result);
  const { elections, footprint } = result;
  if (elections !== null) {
    const { shoal, etcd, calm } = elections;
    console.log('\nFrom the leader’s SIGKILL until a write is acknowledged');
    const rows = [['', 'kills', 'median ms', 'p99 ms', 'max ms', 'terms per kill']];
    for (const [name, side] of [['Shoal', shoal] as const, ['etcd', etcd] as const]) {
      if (side === null) continue;
      const times = [side.medianMs, side.p99Ms, side.maxMs].map((ms) => ms.toFixed(0));
      rows.push([name, String(side.kills), ...times, side.termsPerKill.toFixed(2)]);
    }
    table(rows);
    console.log('\nFaults that must not cause an election');
    table([
      ['', 'elections', 'longest write ms'],
      ...calm.map((one) => [one.fault, String(one.elections), one.longestWriteMs?.toFixed(0) ?? 'failed']),
    ]);
  }
  if (footprint !== null) {
    const mib = (bytes: number): string => `${(bytes / MIB).toFixed(1)} MiB`;
    console.log(`\n${footprint.entries} entries of ${footprint.valueBytes}-byte values kept by an idle member`);
    table([
      ['heap and external memory added', mib(footprint.addedHeapBytes)],
      ['resident memory added', mib(footprint.addedRssBytes)],
      ['the same after a restart', mib(footprint.addedRssAfterRestartBytes)],
      ['recovery', `${footprint.recoveryMs.toFixed(0)} ms`],
    ]);
  }
}
