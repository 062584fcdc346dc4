/** A HostNetwork in a process of its own, so that it can live in another network namespace. Spoken to by IPC. */
import {
  directSpawner,
  errorMessage,
  silentLogger,
  systemClock,
  systemRandom,
  createLogger,
} from '../../base/index.ts';
import { HostNetwork } from '../index.ts';
import { createExecKernel } from '../kernel/exec-kernel.ts';

interface Request {
  id: number;
  method: string;
  args: unknown[];
}

const [execRoot = '', tag = '', subnet = '', backend = ''] = process.argv.slice(2);
const repairs: string[] = [];
const network = new HostNetwork({
  execRoot,
  tag,
  spawner: directSpawner,
  clock: systemClock,
  random: systemRandom,
  log: process.env['SHOAL_TEST_LOG'] ? createLogger({ level: 'debug', fd: 2 }) : silentLogger,
  bridge: { subnet },
  onRepair: ({ message }) => repairs.push(message),
  ...(backend === 'exec' ? { kernel: createExecKernel(directSpawner) } : {}),
});

process.on('message', (message: Request) => {
  // What was repaired since this was last asked.
  const own = { takeRepairs: () => repairs.splice(0) };
  const methods = { ...own } as Record<string, (...args: unknown[]) => unknown>;
  const method =
    methods[message.method] ?? (network as unknown as Record<string, (...args: unknown[]) => unknown>)[message.method];
  void Promise.resolve()
    .then(() => method?.apply(network, message.args))
    .then(
      (result) => process.send?.({ id: message.id, result }),
      (error: unknown) => process.send?.({ id: message.id, error: errorMessage(error) }),
    );
});
process.send?.({ id: 0, result: 'ready' });
