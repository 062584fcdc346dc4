import { groupTasks, Scheduler } from '/tmp/w/sched/scheduler/index.ts';
import { Node, NodeSpec_Availability, NodeStatus_State, Task, TaskState } from '/tmp/w/sched/proto/index.ts';
const [N, T, per, mode] = [Number(process.argv[2]), Number(process.argv[3]), Number(process.argv[4] ?? 100), process.argv[5] ?? 'plain'];
for (let run = 0; run < Number(process.argv[6] ?? 3); run++) {
const s = new Scheduler();
for (let i = 0; i < N; i++) s.setNode(Node.create({ id: 'n' + i, spec: { availability: NodeSpec_Availability.ACTIVE, annotations: { labels: { zone: 'z' + i % 3, rack: 'r' + i % 30, disk: 'ssd' } } }, status: { state: NodeStatus_State.READY, addr: '10.0.0.1' }, description: { hostname: 'n' + i, platform: { os: 'linux', architecture: 'x86_64' }, resources: { nano_cpus: 64e9, memory_bytes: 256 * 2 ** 30 }, engine: { labels: {} } } }));
const tasks: Task[] = [];
for (let i = 0; i < T; i++) { const sv = Math.floor(i / per); tasks.push(Task.create({ id: 't' + i, service_id: 's' + sv, spec_version: { index: 1 }, slot: i % per, status: { state: TaskState.PENDING }, desired_state: TaskState.RUNNING, service_annotations: { name: 's' + sv, labels: {} }, spec: { container: { image: 'x' }, ...(mode === 'res' ? { resources: { reservations: { nano_cpus: 0.8 * 64e9 / (T / N), memory_bytes: 1e6 * (1 + sv % 9) } } } : {}), ...(mode === 'con' ? { placement: { constraints: ['node.role == worker', 'node.labels.disk == ssd', 'node.platform.os == linux'], preferences: [{ spread: { spread_descriptor: 'node.labels.zone' } }, { spread: { spread_descriptor: 'node.labels.rack' } }] } } : {}) } })); }
const rss0 = process.memoryUsage().rss / 2 ** 20;
const t0 = performance.now(); const c0 = process.cpuUsage();
const d = s.schedule(groupTasks(tasks), 0);
const ms = performance.now() - t0; const cu = process.cpuUsage(c0); const cpu = (cu.user+cu.system)/1000;
console.log("cpu ms", cpu.toFixed(0), "per cpu s", Math.round(T/cpu*1000), mode, N, T, per, d.assignments.length, 'ms', ms.toFixed(0), 'per s', Math.round(T / ms * 1000), 'rss', rss0.toFixed(0), (process.memoryUsage().rss / 2 ** 20).toFixed(0));
}
