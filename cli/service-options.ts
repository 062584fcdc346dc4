import { SETTING_OPTIONS } from './service-settings.ts';
import { parseMount } from './service-mount.ts';
import { option, type OptionSpec } from './command.ts';
import {
  parseNetwork,
  parsePorts,
  parsePreference,
  parseUlimit,
  parseHost,
  parseAddress,
  parseLabel,
  parseCredentialSpec,
  dataReader,
} from './service-values.ts';
import { parseDuration, parseInteger } from './units.ts';
import { shellWords } from './words.ts';

const list = (name: string, help: string, parse?: (text: string) => unknown, kind = 'list'): OptionSpec =>
  option(name, kind, help, { many: true, ...(parse === undefined ? {} : { parse }) });

/** A duration that may be anything Go reads. */
const duration = (name: string, help: string, shown?: string): OptionSpec =>
  option(name, 'duration', help, { parse: parseDuration, ...(shown === undefined ? {} : { shown }) });

const shownIf = (creating: boolean, shown: string): { shown?: string } => (creating ? { shown } : {});

function updateOptions(verb: 'update' | 'rollback', creating: boolean): OptionSpec[] {
  const actions = verb === 'update' ? '"pause", "continue", "rollback"' : '"pause", "continue"';
  return [
    option(
      `${verb}-parallelism`,
      'uint',
      `How many tasks one ${verb} step takes at once (0 for all)`,
      shownIf(creating, '1'),
    ),
    duration(`${verb}-delay`, `Pause between two steps of the ${verb}`, creating ? '0s' : undefined),
    duration(
      `${verb}-monitor`,
      `How long each task is watched for failure after its ${verb}`,
      creating ? '5s' : undefined,
    ),
    option(
      `${verb}-failure-action`,
      'string',
      `What to do when the ${verb} fails (${actions})`,
      shownIf(creating, '"pause"'),
    ),
    option(
      `${verb}-max-failure-ratio`,
      'float',
      `Share of failed tasks that the ${verb} bears`,
      shownIf(creating, '0'),
    ),
    option(
      `${verb}-order`,
      'string',
      `Order of the ${verb}'s steps ("start-first", "stop-first")`,
      shownIf(creating, '"stop-first"'),
    ),
  ];
}

/** Options that create and update share. */
function commonOptions(creating: boolean): OptionSpec[] {
  return [
    option('detach,d', 'bool', 'Return at once, do not wait until the service has converged'),
    option('quiet,q', 'bool', 'Show no progress'),
    option('workdir,w', 'string', 'Working directory inside the container'),
    option('user,u', 'string', 'User name or id (<name|uid>[:<group|gid>])'),
    option('credential-spec', 'credential-spec', 'Credential spec of a managed service account (Windows)', {
      parse: parseCredentialSpec,
    }),
    option('hostname', 'string', "The container's host name"),
    option('entrypoint', 'command', "Program that takes the place of the image's ENTRYPOINT", { parse: shellWords }),
    list('cap-add', 'Linux capabilities to add'),
    list('cap-drop', 'Linux capabilities to drop'),
    option('limit-cpu', 'decimal', 'Most CPUs a task may use'),
    option('limit-memory', 'bytes', 'Most memory a task may use'),
    option('limit-pids', 'int', 'Most processes of a task (0 for no limit)'),
    option('reserve-cpu', 'decimal', 'CPUs kept for each task'),
    option('reserve-memory', 'bytes', 'Memory kept for each task'),
    duration('stop-grace-period', 'Time between the stop signal and the kill', creating ? '10s' : undefined),
    option('stop-signal', 'string', 'Signal that stops the container'),
    option('replicas', 'uint', 'Number of tasks'),
    option('max-concurrent', 'uint', "A job's tasks that run at once (as many as --replicas when not given)"),
    option('replicas-max-per-node', 'uint', 'Most tasks on one node (0 for no limit)'),
    option(
      'restart-condition',
      'string',
      'When a task is started anew ("none", "on-failure", "any")',
      shownIf(creating, '"any"'),
    ),
    duration('restart-delay', 'Pause before a new start', creating ? '5s' : undefined),
    option('restart-max-attempts', 'uint', 'Starts after which it is given up'),
    duration('restart-window', 'Time in which starts are counted'),
    ...updateOptions('update', creating),
    ...updateOptions('rollback', creating),
    option('endpoint-mode', 'string', 'How the name resolves (vip or dnsrr)', shownIf(creating, '"vip"')),
    option('with-registry-auth', 'bool', "Give the registry's credentials to the nodes"),
    option('no-resolve-image', 'bool', 'Do not ask the registry for digest and platforms of the image'),
    option('log-driver', 'string', 'Log driver of the service'),
    list('log-opt', 'Log driver options'),
    option('health-cmd', 'string', 'Command that checks the health'),
    option('health-interval', 'duration', 'Time between two checks'),
    option('health-timeout', 'duration', 'Longest time of one check'),
    option('health-retries', 'int', 'Failures in a row that make it unhealthy', { parse: parseInteger }),
    option('health-start-period', 'duration', 'Time after the start in which failures do not count'),
    option('health-start-interval', 'duration', 'Time between checks in the start period'),
    option('no-healthcheck', 'bool', "Do without the image's HEALTHCHECK"),
    option('tty,t', 'bool', 'Give the container a terminal'),
    option('read-only', 'bool', "Make the container's root file system read-only"),
    option('init', 'bool', 'Run an init in the container that passes signals on and reaps processes'),
    option('isolation', 'string', "Isolation mode of the service's containers"),
    option('oom-score-adj', 'int', "Out-of-memory score of the container's processes (-1000 to 1000)"),
    ...SETTING_OPTIONS,
  ];
}

/** Options of `service create`. */
export const CREATE_OPTIONS: readonly OptionSpec[] = [
  ...commonOptions(true),
  option('name', 'string', 'Name of the service'),
  option('mode', 'string', 'Kind of service ("replicated", "global", "replicated-job", "global-job")', {
    initial: 'replicated',
    shown: '"replicated"',
  }),
  list('label,l', 'Labels of the service', parseLabel),
  list('container-label', 'Labels of the containers', parseLabel),
  list('env,e', 'Environment variables'),
  list('env-file', 'Files of environment variables'),
  list('mount', 'Mounts in the container', parseMount, 'mount'),
  list('constraint', 'Conditions on nodes'),
  list('placement-pref', 'Placement preferences (spread=LABEL)', parsePreference, 'pref'),
  list('network', 'Networks of the service', parseNetwork, 'network'),
  list('secret', 'Secrets shown to the service', dataReader('Secret'), 'secret'),
  list('config', 'Configs shown to the service', dataReader('Config'), 'config'),
  list('publish,p', 'Ports published on the nodes', parsePorts, 'port'),
  list('group', 'Further groups of the container'),
  list('dns', 'DNS servers', parseAddress),
  list('dns-option', 'DNS options'),
  list('dns-search', 'DNS search domains'),
  list('host', 'Further lines of /etc/hosts (host:ip)', parseHost),
  list('sysctl', 'Kernel settings of the container'),
  list('ulimit', 'Process limits', parseUlimit, 'ulimit'),
  list('generic-resource', 'Resources of your own kinds'),
];

/** Options of `service update`. */
export const UPDATE_OPTIONS: readonly OptionSpec[] = [
  ...commonOptions(false),
  option('image', 'string', 'Image of the service'),
  option('args', 'command', "Arguments of the container's program", { parse: shellWords }),
  option('rollback', 'bool', 'Go back to the previous specification'),
  option('force', 'bool', 'Restart tasks even if nothing else has changed'),
  list('label-add', 'Labels to add or change', parseLabel),
  list('label-rm', 'Labels to remove, by key'),
  list('container-label-add', 'Container labels to add or change', parseLabel),
  list('container-label-rm', 'Container labels to remove, by key'),
  list('env-add', 'Environment variables to add or change'),
  list('env-rm', 'Environment variables to remove'),
  list('mount-add', 'Mounts to add or change', parseMount, 'mount'),
  list('mount-rm', 'Mounts to remove, by target path'),
  list('constraint-add', 'Conditions on nodes to add'),
  list('constraint-rm', 'Conditions on nodes to remove'),
  list('placement-pref-add', 'Placement preferences to add', parsePreference, 'pref'),
  list('placement-pref-rm', 'Placement preferences to remove', parsePreference, 'pref'),
  list('network-add', 'Networks to add', parseNetwork, 'network'),
  list('network-rm', 'Networks to remove'),
  list('secret-add', 'Secrets to add or change', dataReader('Secret'), 'secret'),
  list('secret-rm', 'Secrets to remove'),
  list('config-add', 'Configs to add or change', dataReader('Config'), 'config'),
  list('config-rm', 'Configs to remove'),
  list('publish-add', 'Published ports to add or change', parsePorts, 'port'),
  list('publish-rm', 'Published ports to remove, by target port', parsePorts, 'port'),
  list('group-add', 'Groups to add'),
  list('group-rm', 'Groups to remove'),
  list('dns-add', 'DNS servers to add', parseAddress),
  list('dns-rm', 'DNS servers to remove'),
  list('dns-option-add', 'DNS options to add'),
  list('dns-option-rm', 'DNS options to remove'),
  list('dns-search-add', 'DNS search domains to add'),
  list('dns-search-rm', 'DNS search domains to remove'),
  list('host-add', 'Lines of /etc/hosts to add (host:ip)', parseHost),
  list('host-rm', 'Lines of /etc/hosts to remove (host:ip)'),
  list('sysctl-add', 'Kernel settings to add or change'),
  list('sysctl-rm', 'Kernel settings to remove'),
  list('ulimit-add', 'Process limits to add or change', parseUlimit, 'ulimit'),
  list('ulimit-rm', 'Process limits to remove'),
  list('generic-resource-add', 'Resources of your own kinds to add'),
  list('generic-resource-rm', 'Resources of your own kinds to remove'),
];
