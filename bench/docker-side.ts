import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { errorMessage, httpJson, must, ShoalError, systemClock } from '../base/index.ts';
import { formSwarm, makeCgroup, type HostFacts, type Lab } from '../lab/index.ts';
import type { Side } from './hosts.ts';

const START_TIMEOUT_MS = 60_000;
const POLL_MS = 100;
/** What dockerd and containerd keep outside their roots; each host gets a tmpfs of its own there. */
const PRIVATE_DIRECTORIES = ['/run/docker', '/run/containerd', '/etc/docker'];

/** Whether Docker's own engine is installed. */
export function findDockerd(): string | undefined {
  return (process.env['PATH'] ?? '')
    .split(delimiter)
    .map((directory) => join(directory, 'dockerd'))
    .find((path) => existsSync(path));
}

interface Version {
  Version: string;
  Components?: { Name: string; Version: string }[];
}

/**
 * Starts dockerds on hosts like Shoal's: the same namespaces, bridge and cgroups, another daemon. They form a swarm
 * unless `swarm` is false.
 */
export async function startDocker(
  lab: Lab,
  dockerd: string,
  managers: number,
  workers: number,
  swarm = true,
): Promise<Side> {
  const hosts = await lab.up({ managers, workers, subnet: '', swarm: false, daemonFlags: [], daemons: false });
  for (const host of hosts) launch(lab, dockerd, host);
  await Promise.all(hosts.map((host) => answering(lab, host)));
  if (swarm) await formSwarm(hosts);
  const host = must(hosts[0], 'first host').docker_host;
  const version = await httpJson<Version>({ host, method: 'GET', path: '/version' });
  const info = await httpJson<{ Driver: string; CgroupDriver: string; CgroupVersion: string }>({
    ...{ host, method: 'GET', path: '/info' },
  });
  const parts = (version.Components ?? []).map((part) => `${part.Name} ${part.Version}`);
  return {
    ...{ name: 'docker', version: version.Version, lab, hosts },
    configuration: [
      'dockerd on each host with a containerd of its own, default settings except paths and cgroup parent',
      `storage driver ${info.Driver}, cgroup driver ${info.CgroupDriver}, cgroup v${info.CgroupVersion}, iptables on`,
      parts.join(', '),
    ],
  };
}

/** Removes the directories that the private mounts needed, where they are empty (they were made for them). */
export function removeMountPoints(made: readonly string[]): void {
  for (const path of made) {
    if (existsSync(path) && readdirSync(path).length === 0) rmdirSync(path);
  }
}

/** Makes the places for the private mounts; returns those that were not there before. */
export function makeMountPoints(): string[] {
  const missing = PRIVATE_DIRECTORIES.filter((path) => !existsSync(path));
  for (const path of missing) mkdirSync(path, { recursive: true });
  return missing;
}

function logFile(lab: Lab, host: HostFacts): string {
  return join(lab.names.hostRunDir(host.name), 'daemon.log');
}

function launch(lab: Lab, dockerd: string, { name, docker_host: socket }: HostFacts): void {
  const runDir = lab.names.hostRunDir(name);
  const mounts = PRIVATE_DIRECTORIES.map((path) => `mount -t tmpfs tmpfs ${path}`).join(' && ');
  const daemon = [
    ...[dockerd, '--data-root', join(lab.names.hostDataDir(name), 'docker'), '--exec-root', join(runDir, 'exec')],
    ...['--pidfile', join(runDir, 'daemon.pid'), '-H', socket, '--storage-driver', 'overlay2'],
    ...['--cgroup-parent', `/${lab.names.hostCgroup(name)}/containers`],
  ];
  const enter = ['--target', String(lab.holder(name)), '--net', '--mount', '--uts', '--'];
  const inside = ['sh', '-c', `${mounts} && exec "$@"`, 'sh', ...daemon];
  const log = openSync(logFile(lab, { name } as HostFacts), 'a', 0o600);
  const procs = makeCgroup(lab.names.hostCgroup(name));
  const child = spawn('sh', ['-c', 'echo $$ >"$0" && exec nsenter "$@"', procs, ...enter, ...inside], {
    ...{ detached: true, stdio: ['ignore', log, log], cwd: '/' },
  });
  child.unref();
  closeSync(log);
}

async function answering(lab: Lab, host: HostFacts): Promise<void> {
  const began = systemClock.monotonic();
  for (;;) {
    try {
      await httpJson({ host: host.docker_host, method: 'GET', path: '/info', timeoutMs: 5_000 });
      return;
    } catch (error) {
      if (systemClock.monotonic() - began > START_TIMEOUT_MS) {
        const log = readFileSync(logFile(lab, host), 'utf8').split('\n').slice(-10).join('\n');
        throw new ShoalError('Internal', `dockerd of ${host.name} does not answer: ${errorMessage(error)}\n${log}`);
      }
      await systemClock.sleep(POLL_MS);
    }
  }
}
