import { expect, test } from 'vitest';
import { AssignmentsMessage, NetworkTable, Task, type AssignmentChange } from '../../proto/index.ts';
import { AssignmentCodec } from './assignment-codec.ts';

const spec = Task.create({ spec: { container: { image: 'busybox', env: ['A=1'] }, force_update: 3 } }).spec;
const annotations = Task.create({ service_annotations: { name: 'web', labels: { a: 'b' } } }).service_annotations;

function task(id: string, more: Partial<Task> = {}): Task {
  const own = Task.create({ id, slot: 7, service_id: 'service', status: { state: 192 }, node_id: 'node' });
  return { ...own, spec, service_annotations: annotations, ...more };
}

const change = (assignment: AssignmentChange['assignment'], action: 0 | 1 = 0): AssignmentChange => ({
  assignment,
  action,
});

const same = (codec: AssignmentCodec, changes: AssignmentChange[]): void => {
  const message = AssignmentsMessage.create({ type: 1, applies_to: '4', results_in: '5' });
  const whole = { ...message, changes };
  expect(AssignmentsMessage.decode(codec.encode(whole))).toEqual(
    AssignmentsMessage.decode(AssignmentsMessage.encode(whole)),
  );
};

test('what it writes says what the general encoding says', () => {
  const codec = new AssignmentCodec();
  const secret = { id: 's', meta: null, spec: null, internal: false };
  same(codec, []);
  same(codec, [change({ task: task('a') }), change({ task: task('b') }), change({ secret })]);
  same(codec, [change({ task: task('a') }, 1), change({ task: Task.create({ id: 'bare' }) }, 1), change(null)]);
});

test('tasks of one specification that differ in another shared part are told apart', () => {
  const codec = new AssignmentCodec();
  const other = Task.create({ service_annotations: { name: 'db' } }).service_annotations;
  same(codec, [
    change({ task: task('a') }),
    change({ task: task('b', { service_annotations: other }) }),
    change({ task: task('c', { spec_version: { index: 9 } }) }),
    change({ task: task('d') }),
  ]);
});

test('tables of networks are told as they are, again and changed', () => {
  const codec = new AssignmentCodec();
  const full = NetworkTable.create({
    network_id: 'net',
    version: 7,
    network: { id: 'net', spec: { annotations: { name: 'front' } } },
    endpoints: [
      { task_id: 'a', address: '10.0.0.3/24', address6: 'fd00::3/64', serving: true, weight: 3 },
      { task_id: 'b', aliases: ['x', 'y'] },
    ],
    services: [{ service_id: 's', vip: '10.0.0.2', ports: [{ target_port: 80, host_ip: '192.0.2.1' }] }],
    peers: [{ node_id: 'n', vtep: '192.0.2.9', wireguard_key: Buffer.alloc(32, 1) }],
  });
  const later = { ...full, version: 8, endpoints: [full.endpoints[1]!, { ...full.endpoints[0]!, serving: false }] };
  const empty = NetworkTable.create({ network_id: 'net', version: 9 });
  for (const table of [full, full, later]) same(codec, [change({ network_table: table }), change({ task: task('a') })]);
  same(codec, [change({ network_table: empty }, 1)]);
});
