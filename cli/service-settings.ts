import { option, type OptionSpec } from './command.ts';
import type { Flags } from './options.ts';

interface Setting {
  flag: string;
  label: string;
  kind: 'string' | 'bool' | 'list';
  help: string;
}

const setting = (flag: string, kind: Setting['kind'], help: string, label = flag.replace('-', '.')): Setting => ({
  flag,
  label: `shoal.${label}`,
  kind,
  help,
});

/** Shoal's own settings of a service. They travel as labels, so that every client and Compose file keeps them. */
const SETTINGS: readonly Setting[] = [
  setting('update-canary', 'string', 'Update this many tasks first, then wait for "service promote"'),
  setting('update-canary-wait', 'string', 'Promote a canary by itself after this time', 'update.canary-wait'),
  setting('update-deadline', 'string', 'Longest time without progress before an update counts as failed (10m)'),
  setting('drain', 'string', 'Longest time that a task may finish its connections before it is told to stop (5s)'),
  setting('rebalance', 'bool', 'Move tasks to nodes that join or come back', 'rebalance'),
  setting('move-order', 'string', 'Order in which tasks leave drained nodes ("start-first", "stop-first")'),
  setting('autoscale-min', 'string', 'Fewest replicas (1)'),
  setting('autoscale-max', 'string', 'Most replicas; switches autoscaling on'),
  setting('autoscale-cpu', 'string', 'CPU use to aim at, per cent of the limit, or of one CPU without a limit'),
  setting('autoscale-memory', 'string', 'Memory use to aim at, per cent of the limit'),
  setting('autoscale-up-after', 'string', 'How long more must be needed before it comes (15s)', 'autoscale.up-after'),
  setting('autoscale-down-after', 'string', 'How long less must do before it goes (2m)', 'autoscale.down-after'),
  setting('cron', 'string', 'When the job runs: minute hour day month weekday, or @hourly and the like', 'cron'),
  setting('cron-timezone', 'string', "Time zone of the job's schedule (UTC)"),
  setting('cron-concurrency', 'string', 'What a run does that is due during another ("allow", "forbid", "replace")'),
  setting('cron-history', 'string', 'Finished runs to remember (5)'),
  setting(
    'depends-on',
    'list',
    'Services to wait for at the first start (SERVICE[:started|healthy|completed])',
    'depends-on',
  ),
  setting(
    'affinity',
    'list',
    'Only nodes with a task of such a service (service.name==X, service.labels.K==V)',
    'affinity',
  ),
  setting('anti-affinity', 'list', 'Only nodes without a task of such a service', 'anti-affinity'),
  setting('priority', 'string', 'Rank when there is not enough room, 0 to 1000 (0)', 'priority'),
  setting('placement-strategy', 'string', 'How nodes are ranked ("spread", "binpack"; the cluster\'s)'),
  setting('ingress', 'string', 'Tasks that an entry host sends connections to ("all", or "local" if it has any)'),
  setting('preempt', 'bool', 'May push tasks of lower priority off a node', 'preempt'),
];

/** Options of `service create` and `service update` for these settings. */
export const SETTING_OPTIONS: readonly OptionSpec[] = SETTINGS.map(({ flag, kind, help }) =>
  option(flag, kind, help, kind === 'list' ? { many: true } : {}),
);

function valueOf(flags: Flags, { flag, kind }: Setting): string {
  if (kind === 'bool') return flags.bool(flag) ? 'true' : '';
  return kind === 'list' ? flags.list(flag).join(',') : flags.string(flag);
}

/** The labels of a service with the settings that were given laid over them; an empty value takes a setting away. */
export function withSettings(
  flags: Flags,
  labels: Readonly<Record<string, string>> | undefined,
): Record<string, string> {
  const result: Record<string, string> = { ...labels };
  for (const one of SETTINGS) {
    if (!flags.changed(one.flag)) continue;
    const value = valueOf(flags, one);
    if (value === '') delete result[one.label];
    else result[one.label] = value;
  }
  return result;
}

/** Whether any of these settings was given. */
export function hasSettings(flags: Flags): boolean {
  return SETTINGS.some(({ flag }) => flags.changed(flag));
}
