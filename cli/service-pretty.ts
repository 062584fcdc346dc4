import type { Service, UpdateConfig } from './objects.ts';
import { binarySize, formatDuration, humanDuration } from './units.ts';

type Lines = (string | false | undefined)[];

const map = (indent: string, values: Record<string, string> | undefined, separator: string): Lines =>
  Object.entries(values ?? {})
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${indent}${key}${value === '' ? '' : `${separator}${value}`}`);

/** When a job runs by the clock, and how it went the last time. */
function cronLines({ Cron }: Service, nowMs: number): Lines {
  if (Cron === undefined) return [];
  const { NextScheduled: next } = Cron;
  const last = Cron.Runs.at(-1);
  const message = last === undefined || last.Message === '' ? '' : ` (${last.Message})`;
  return [
    'Cron:',
    ` Schedule:\t${Cron.Schedule}`,
    next !== undefined && ` Next run:\tin ${humanDuration(Math.max(0, Date.parse(next) - nowMs))} (${next})`,
    last !== undefined && ` Last run:\t${last.Scheduled ?? ''} ${last.Outcome}${message}`,
    Cron.Message !== '' && ` Message:\t${Cron.Message}`,
  ];
}

function modeLines(service: Service, nowMs: number): Lines {
  const { Mode } = service.Spec;
  if (Mode.Global !== undefined) return ['Service Mode:\tGlobal'];
  if (Mode.Replicated === undefined) return ['Service Mode:', ...cronLines(service, nowMs)];
  const replicas = Mode.Replicated.Replicas ?? 0;
  return ['Service Mode:\tReplicated', replicas > 0 && ` Replicas:\t${replicas}`];
}

function statusLines(service: Service, nowMs: number): Lines {
  const status = service.UpdateStatus;
  if ((status?.State ?? '') === '') return [];
  const ago = (time: string): string => `${humanDuration(nowMs - Date.parse(time))} ago`;
  return [
    'UpdateStatus:',
    ` State:\t\t${status?.State}`,
    status?.StartedAt !== undefined && ` Started:\t${ago(status.StartedAt)}`,
    status?.State === 'completed' && status.CompletedAt !== undefined && ` Completed:\t${ago(status.CompletedAt)}`,
    ` Message:\t${status?.Message ?? ''}`,
  ];
}

/** Shoal's own: an update that waits after its first tasks, and which of its specs the service has. */
function ownLines({ Canary: canary, Revision: revision }: Service, nowMs: number): Lines {
  const ago = (time: string): string => `${humanDuration(nowMs - Date.parse(time))} ago`;
  return [
    ...(canary === undefined
      ? []
      : [
          'Canary:',
          ` Tasks:\t\t${canary.Tasks}`,
          canary.WaitingSince !== undefined && ` Waiting since:\t${ago(canary.WaitingSince)}`,
          canary.PromotedAt !== undefined && ` Promoted:\t${ago(canary.PromotedAt)}`,
        ]),
    (revision ?? 0) > 0 && `Revision:\t${revision}`,
  ];
}

/** Shoal's own; docker shows the settings as labels only. */
function autoscaleLines({ Autoscale: last, Spec: { Labels: labels = {} } }: Service, nowMs: number): Lines {
  const max = labels['shoal.autoscale.max'];
  if (max === undefined) return [];
  const target = (word: string, label: string): string | false =>
    labels[label] !== undefined && ` ${word}:${' '.repeat(15 - word.length)}${labels[label]} %`;
  return [
    'Autoscale:',
    ` Replicas:       ${labels['shoal.autoscale.min'] ?? '1'}..${max}`,
    target('CPU target', 'shoal.autoscale.cpu'),
    target('Memory target', 'shoal.autoscale.memory'),
    last !== undefined && ` Changed:        ${humanDuration(nowMs - Date.parse(last.ChangedAt))} ago`,
    last !== undefined && ` Message:        ${last.Message}`,
  ];
}

function updateLines(title: string, order: string, config: UpdateConfig | undefined): Lines {
  if (config === undefined) return [];
  return [
    `${title}:`,
    ` Parallelism:\t${config.Parallelism}`,
    (config.Delay ?? 0) > 0 && ` Delay:\t\t${formatDuration(config.Delay ?? 0)}`,
    ` On failure:\t${config.FailureAction ?? ''}`,
    (config.Monitor ?? 0) > 0 && ` Monitoring Period: ${formatDuration(config.Monitor ?? 0)}`,
    ` Max failure ratio: ${config.MaxFailureRatio}`,
    ` ${order}:${' '.repeat(18 - order.length)}${config.Order ?? ''}`,
  ];
}

function placementLines(service: Service): Lines {
  const placement = service.Spec.TaskTemplate.Placement;
  const list = (words: readonly string[]): string => `[${words.join(' ')}]`;
  const preferences = (placement?.Preferences ?? []).flatMap((one) =>
    one.Spread === undefined ? [] : [`spread=${one.Spread.SpreadDescriptor}`],
  );
  return [
    'Placement:',
    (placement?.Constraints ?? []).length > 0 && ` Constraints:\t${list(placement?.Constraints ?? [])}`,
    preferences.length > 0 && ` Preferences:   ${list(preferences)}`,
    (placement?.MaxReplicas ?? 0) > 0 && ` Max Replicas Per Node:   ${placement?.MaxReplicas}`,
  ];
}

function containerLines(service: Service): Lines {
  const container = service.Spec.TaskTemplate.ContainerSpec;
  const words = (list: readonly string[]): string => list.map((word) => `${word} `).join('');
  const add = container.CapabilityAdd ?? [];
  const drop = container.CapabilityDrop ?? [];
  const sysctls = container.Sysctls ?? {};
  return [
    'ContainerSpec:',
    ` Image:\t\t${container.Image}`,
    (container.Args ?? []).length > 0 && ` Args:\t\t${words(container.Args ?? [])}`,
    (container.Env ?? []).length > 0 && ` Env:\t\t${words(container.Env ?? [])}`,
    (container.Dir ?? '') !== '' && ` Dir:\t\t${container.Dir}`,
    container.Init !== undefined && ` Init:\t\t${container.Init}`,
    (container.User ?? '') !== '' && ` User: ${container.User}`,
    add.length + drop.length > 0 && 'Capabilities:',
    add.length > 0 && ` Add: ${add.join(', ')}`,
    drop.length > 0 && ` Drop: ${drop.join(', ')}`,
    Object.keys(sysctls).length > 0 && 'SysCtls:',
    ...map(' ', sysctls, ': '),
    (container.Ulimits ?? []).length > 0 && 'Ulimits:',
    ...(container.Ulimits ?? []).map((one) => ` ${one.Name}: ${one.Soft}:${one.Hard}`),
  ];
}

function fileLines(service: Service): Lines {
  const { Mounts = [], Configs = [], Secrets = [] } = service.Spec.TaskTemplate.ContainerSpec;
  return [
    Mounts.length > 0 && 'Mounts:',
    ...Mounts.flatMap((mount) => [
      ` Target:\t${mount.Target}`,
      `  Source:\t${mount.Source ?? ''}`,
      `  ReadOnly:\t${mount.ReadOnly ?? false}`,
      `  Type:\t\t${mount.Type}`,
    ]),
    Configs.length > 0 && 'Configs:',
    ...Configs.flatMap((one) => [` Target:\t${one.File?.Name ?? ''}`, `  Source:\t${one.ConfigName ?? ''}`]),
    Secrets.length > 0 && 'Secrets:',
    ...Secrets.flatMap((one) => [` Target:\t${one.File?.Name ?? ''}`, `  Source:\t${one.SecretName ?? ''}`]),
  ];
}

function resourceLines(service: Service): Lines {
  const { Resources, LogDriver } = service.Spec.TaskTemplate;
  const part = (title: string, one: { NanoCPUs?: number; MemoryBytes?: number } | undefined): Lines => {
    const cpus = (one?.NanoCPUs ?? 0) / 1e9;
    const memory = one?.MemoryBytes ?? 0;
    if (cpus === 0 && memory === 0) return [];
    return [` ${title}:`, cpus > 0 && `  CPU:\t\t${cpus}`, memory > 0 && `  Memory:\t${binarySize(memory)}`];
  };
  const parts = [...part('Reservations', Resources?.Reservations), ...part('Limits', Resources?.Limits)];
  const pids = Resources?.Limits?.Pids ?? 0;
  const options = LogDriver?.Options ?? {};
  return [
    ...(LogDriver === undefined
      ? []
      : [
          'Log Driver:',
          LogDriver.Name !== '' && ` Name:\t\t${LogDriver.Name}`,
          Object.keys(options).length > 0 && ' LogOpts:',
          ...map('  ', options, ':       '),
          '',
        ]),
    'Resources:',
    ...parts,
    pids > 0 && `  PIDs:\t\t${pids}`,
  ];
}

function endpointLines(service: Service, networks: ReadonlyMap<string, string>): Lines {
  const names = (service.Spec.TaskTemplate.Networks ?? []).map(({ Target }) => networks.get(Target) ?? Target);
  const ports = service.Endpoint?.Ports ?? [];
  const health = service.Spec.TaskTemplate.ContainerSpec.Healthcheck;
  const lines: Lines = [
    names.length > 0 && `Networks: ${names.join(' ')} `,
    `Endpoint Mode:\t${service.Spec.EndpointSpec?.Mode ?? ''}`,
    ports.length > 0 && 'Ports:',
    ...ports.flatMap((port, i) => [
      ` PublishedPort = ${port.PublishedPort ?? 0}`,
      `  Protocol = ${port.Protocol ?? 'tcp'}`,
      `  TargetPort = ${port.TargetPort}`,
      `  PublishMode = ${port.PublishMode ?? 'ingress'}${i === ports.length - 1 ? ' ' : ''}`,
    ]),
  ];
  if (health !== undefined) {
    lines.push(
      ' Healthcheck:',
      `  Interval = ${formatDuration(health.Interval ?? 0)}`,
      `  Retries = ${health.Retries ?? 0}`,
      `  StartPeriod =\t${formatDuration(health.StartPeriod ?? 0)}`,
      `  Timeout =\t${formatDuration(health.Timeout ?? 0)}`,
      (health.Test ?? []).length > 0 && '  Tests:',
      ...(health.Test ?? []).map((test, i, all) => `\t Test = ${test}${i === all.length - 1 ? ' ' : ''}`),
    );
  }
  return lines;
}

/** A service for people, in the layout of `docker service inspect --pretty`. */
export function prettyService(service: Service, networks: ReadonlyMap<string, string>, nowMs: number): string {
  const labels = service.Spec.Labels ?? {};
  const { UpdateConfig: update, RollbackConfig: rollback } = service.Spec;
  const lines: Lines = [
    '',
    `ID:\t\t${service.ID}`,
    `Name:\t\t${service.Spec.Name}`,
    Object.keys(labels).length > 0 && 'Labels:',
    ...map(' ', labels, '='),
    ...modeLines(service, nowMs),
    ...statusLines(service, nowMs),
    ...ownLines(service, nowMs),
    ...autoscaleLines(service, nowMs),
    ...placementLines(service),
    ...updateLines('UpdateConfig', 'Update order', update),
    ...updateLines('RollbackConfig', 'Rollback order', rollback),
    ...containerLines(service),
    ...fileLines(service),
    ...resourceLines(service),
    ...endpointLines(service, networks),
  ];
  return `${lines.filter((line) => typeof line === 'string').join('\n')}\n`;
}
