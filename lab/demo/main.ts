import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { errorMessage, systemClock } from '../../base/index.ts';
import { Lab } from '../lab.ts';
import { leftovers } from '../leftovers.ts';
import { Client, runStep, STEPS, type Scenario } from './scenario.ts';
import type { StepResult } from './steps.ts';

/** `npm run demo [-- --keep] [--name NAME]`: a swarm on this machine, shown step by step. */
const { values } = parseArgs({
  options: {
    keep: { type: 'boolean', default: false },
    name: { type: 'string', default: 'demo' },
    // Another client that speaks docker's grammar, to show that it works as well.
    client: { type: 'string', default: '' },
  },
});
const shoal = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bin', 'shoal');
const program = values.client === '' ? [process.execPath, shoal] : [values.client];

function print(result: StepResult): void {
  const mark = result.held ? 'ok  ' : 'FAIL';
  console.log(`${mark}  ${result.title.padEnd(22)}  ${result.seconds.toFixed(1).padStart(5)} s   ${result.what}`);
}

function next(scenario: Scenario): void {
  const host = scenario.hosts[0];
  console.log(`
The swarm stays up. Try:
  eval "$(bin/shoal lab env ${host?.name ?? 'm1'} --name ${values.name})"   # then docker or bin/shoal speak to it
  bin/shoal node ls
  bin/shoal service ps web
  curl http://${host?.address ?? ''}:8080/
  bin/shoal lab start w2 --name ${values.name}                 # the lost worker comes back
  bin/shoal lab down --name ${values.name}                     # remove everything`);
}

async function start(lab: Lab): Promise<{ scenario: Scenario; result: StepResult }> {
  const began = systemClock.monotonic();
  const hosts = await lab.up({ managers: 3, workers: 2, subnet: '', swarm: true, daemonFlags: [] });
  const registry = await lab.registry();
  const scenario = { lab, hosts, registry, client: new Client(program, hosts[0]?.docker_host ?? '') };
  const what = '3 managers and 2 workers joined, with raft, mutual TLS and their own networks';
  return {
    scenario,
    result: { title: 'Form a swarm', held: true, what, seconds: (systemClock.monotonic() - began) / 1000 },
  };
}

async function main(): Promise<boolean> {
  const lab = new Lab(values.name);
  const began = systemClock.monotonic();
  console.log('Shoal: a swarm of five hosts on this machine. Every container, network and certificate is real.\n');
  const { scenario, result } = await start(lab);
  print(result);
  let held = true;
  for (const step of STEPS) {
    const outcome = await runStep(step, scenario);
    print(outcome);
    held &&= outcome.held;
    if (!outcome.held) break;
  }
  const total = ((systemClock.monotonic() - began) / 1000).toFixed(0);
  if (values.keep) {
    next(scenario);
    return held;
  }
  await lab.down();
  const left = leftovers(lab.names);
  print({
    title: 'Clean up',
    held: left.length === 0,
    what:
      left.length === 0 ? 'no namespace, mount, cgroup, process or link is left' : `left behind: ${left.join(', ')}`,
    seconds: 0,
  });
  console.log(held && left.length === 0 ? `\nEverything held, in ${total} s.` : '\nNot everything held: see above.');
  return held && left.length === 0;
}

const stopped = async (): Promise<void> => {
  await new Lab(values.name).down();
  process.exit(130);
};
process.once('SIGINT', () => void stopped());
process.once('SIGTERM', () => void stopped());
try {
  process.exitCode = (await main()) ? 0 : 1;
} catch (error) {
  console.error(`demo: ${errorMessage(error)}`);
  if (!values.keep) await new Lab(values.name).down().catch(() => undefined);
  process.exitCode = 1;
}
