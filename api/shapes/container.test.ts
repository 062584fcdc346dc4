import { describe, expect, it } from 'vitest';
import type { ContainerFacts } from '../ports.ts';
import { containerSummary, containerToJson, humanDuration, statusText } from './container.ts';

const facts: ContainerFacts = {
  id: 'f'.repeat(64),
  config: {
    name: 'web.1.x',
    image: 'web:1',
    env: ['A=1'],
    labels: { k: 'v' },
    tty: false,
    openStdin: false,
    readOnlyRootfs: false,
    autoRemove: false,
    privileged: false,
    capAdd: [],
    capDrop: [],
    resources: { memoryBytes: 1024 },
    restart: { name: 'no', maximumRetryCount: 0 },
    logDriver: { type: 'json-file', config: {} },
    network: {
      mode: 'sandbox',
      ports: [{ protocol: 'tcp', targetPort: 80, publishedPort: 8080, hostIp: '' }],
    },
  },
  imageId: 'sha256:1',
  createdMs: 1_700_000_000_000,
  state: 'running',
  pid: 42,
  exitCode: 0,
  oomKilled: false,
  error: '',
  startedMs: 1_700_000_001_000,
  finishedMs: 0,
  restartCount: 0,
  endpoints: [
    { networkId: 'n', networkName: 'net', address: '10.0.1.5/24', gateway: '10.0.1.1', mac: '02:42:0a:00:01:05' },
  ],
  ports: [{ protocol: 'tcp', targetPort: 80, publishedPort: 8080, hostIp: '' }],
  mounts: [{ type: 'volume', name: 'v', source: '/s', destination: '/d', readOnly: true, propagation: '' }],
  logPath: '/log',
  path: 'sh',
  args: ['-c', 'echo x'],
};

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

describe('durations for people', () => {
  it.each([
    [0, 'Less than a second'],
    [999, 'Less than a second'],
    [1000, '1 second'],
    [59_999, '59 seconds'],
    [60_000, 'About a minute'],
    [119_000, 'About a minute'],
    [120_000, '2 minutes'],
    [HOUR - 1000, '59 minutes'],
    [HOUR, 'About an hour'],
    [1.5 * HOUR, '2 hours'],
    [47.4 * HOUR, '47 hours'],
    [47.6 * HOUR, '2 days'],
    [13.9 * DAY, '13 days'],
    [14 * DAY, '2 weeks'],
    [59 * DAY, '8 weeks'],
    [60 * DAY, '2 months'],
    [729 * DAY, '24 months'],
    [730 * DAY, '2 years'],
  ])('%i ms is "%s"', (ms, text) => expect(humanDuration(ms)).toBe(text));

  it('make the status column', () => {
    const at = facts.startedMs + 120_000;
    const status = (more: Partial<ContainerFacts>): string => statusText({ ...facts, ...more }, at);
    expect(status({})).toBe('Up 2 minutes');
    expect(status({ health: 'healthy' })).toBe('Up 2 minutes (healthy)');
    expect(status({ health: 'starting' })).toBe('Up 2 minutes (health: starting)');
    expect(status({ state: 'exited', exitCode: 3, finishedMs: at - 5000 })).toBe('Exited (3) 5 seconds ago');
    expect(status({ state: 'created' })).toBe('Created');
  });
});

describe('containers', () => {
  it('have the members that clients read', () => {
    expect(containerSummary(facts, facts.startedMs)).toMatchObject({
      Names: ['/web.1.x'],
      Command: "sh -c 'echo x'",
      Created: 1_700_000_000,
      Ports: [{ IP: '0.0.0.0', PrivatePort: 80, PublicPort: 8080, Type: 'tcp' }],
      HostConfig: { NetworkMode: 'default' },
      NetworkSettings: { Networks: { net: { IPAddress: '10.0.1.5', IPPrefixLen: 24 } } },
      Mounts: [{ Type: 'volume', RW: false }],
    });
    expect(containerToJson(facts, 'overlay2')).toMatchObject({
      Name: '/web.1.x',
      State: { Running: true, Pid: 42, FinishedAt: '0001-01-01T00:00:00Z' },
      HostConfig: { Memory: 1024, PortBindings: { '80/tcp': [{ HostIp: '', HostPort: '8080' }] } },
      NetworkSettings: { Ports: { '80/tcp': [{ HostIp: '0.0.0.0', HostPort: '8080' }] } },
      Config: { Hostname: 'f'.repeat(12) },
      GraphDriver: { Name: 'overlay2', Data: null },
    });
  });
});
