import type { CommandGroup } from './command.ts';

/** Where a command is found. Its file is loaded only when the command is asked for. */
export interface Entry {
  about: string;
  load: () => Promise<CommandGroup>;
  /** Name inside the file's group. */
  key: string;
  aliases?: readonly string[];
}

export interface Group {
  about: string;
  commands: Readonly<Record<string, Entry>>;
}

const doctor = (): Promise<CommandGroup> => import('./doctor.ts').then((file) => file.doctorCommands);
const container = (): Promise<CommandGroup> => import('./container.ts').then((file) => file.containerCommands);
const containerRun = (): Promise<CommandGroup> =>
  import('./container-run.ts').then((file) => file.containerRunCommands);
const containerExec = (): Promise<CommandGroup> =>
  import('./container-exec.ts').then((file) => file.containerExecCommands);
const containerManage = (): Promise<CommandGroup> =>
  import('./container-manage.ts').then((file) => file.containerManageCommands);
const containerStats = (): Promise<CommandGroup> =>
  import('./container-stats.ts').then((file) => file.containerStatsCommands);
const containerCopy = (): Promise<CommandGroup> =>
  import('./container-copy.ts').then((file) => file.containerCopyCommands);
const prune = (): Promise<CommandGroup> => import('./prune.ts').then((file) => file.pruneCommands);
const systemDf = (): Promise<CommandGroup> => import('./system-df.ts').then((file) => file.systemDfCommands);
const completion = (): Promise<CommandGroup> => import('./completion.ts').then((file) => file.completionCommands);
const login = (): Promise<CommandGroup> => import('./login.ts').then((file) => file.loginCommands);
const logs = (): Promise<CommandGroup> => import('./container-logs.ts').then((file) => file.containerLogCommands);
const image = (): Promise<CommandGroup> => import('./image.ts').then((file) => file.imageCommands);
const transfer = (): Promise<CommandGroup> => import('./image-transfer.ts').then((file) => file.imageTransferCommands);
const networkCheck = (): Promise<CommandGroup> =>
  import('./network-check.ts').then((file) => file.networkCheckCommands);
const network = (): Promise<CommandGroup> => import('./network.ts').then((file) => file.networkCommands);
const node = (): Promise<CommandGroup> => import('./node.ts').then((file) => file.nodeCommands);
const nodeDrain = (): Promise<CommandGroup> => import('./node-drain.ts').then((file) => file.nodeDrainCommands);
const service = (): Promise<CommandGroup> => import('./service.ts').then((file) => file.serviceCommands);
const serviceChange = (): Promise<CommandGroup> =>
  import('./service-change.ts').then((file) => file.serviceChangeCommands);
const serviceHistory = (): Promise<CommandGroup> =>
  import('./service-history.ts').then((file) => file.serviceHistoryCommands);
const serviceRuns = (): Promise<CommandGroup> => import('./service-runs.ts').then((file) => file.serviceRunCommands);
const serviceRebalance = (): Promise<CommandGroup> =>
  import('./service-rebalance.ts').then((file) => file.serviceRebalanceCommands);
const serviceStats = (): Promise<CommandGroup> =>
  import('./service-stats.ts').then((file) => file.serviceStatsCommands);
const serviceLogs = (): Promise<CommandGroup> => import('./service-logs.ts').then((file) => file.serviceLogCommands);
const swarm = (): Promise<CommandGroup> => import('./swarm.ts').then((file) => file.swarmCommands);
const swarmSecrets = (): Promise<CommandGroup> => import('./swarm-keys.ts').then((file) => file.swarmKeyCommands);
const swarmBackup = (): Promise<CommandGroup> => import('./swarm-backup.ts').then((file) => file.swarmBackupCommands);
const system = (): Promise<CommandGroup> => import('./system.ts').then((file) => file.systemCommands);
const plan = (): Promise<CommandGroup> => import('./plan.ts').then((file) => file.planCommands);
const why = (): Promise<CommandGroup> => import('./why.ts').then((file) => file.whyCommands);
const volume = (): Promise<CommandGroup> => import('./volume.ts').then((file) => file.volumeCommands);
const secret = (): Promise<CommandGroup> => import('./data.ts').then((file) => file.secretCommands);
const config = (): Promise<CommandGroup> => import('./data.ts').then((file) => file.configCommands);

const entry = (key: string, load: Entry['load'], about: string, ...aliases: string[]): Entry => ({
  key,
  load,
  about,
  ...(aliases.length === 0 ? {} : { aliases }),
});

const CONTAINER: Group = {
  about: 'Manage containers',
  commands: {
    attach: entry('attach', containerRun, 'Attach your input and output to a running container'),
    commit: entry('commit', containerManage, "Create a new image from a container's changes"),
    cp: entry('cp', containerCopy, 'Copy files and folders between a container and here'),
    create: entry('create', containerRun, 'Create a container without starting it'),
    diff: entry('diff', containerManage, "Show what has changed in a container's file system"),
    exec: entry('exec', containerExec, 'Run a command in a running container'),
    export: entry('export', containerManage, "Write a container's file system as a tar archive"),
    inspect: entry('inspect', container, 'Show all facts of one or more containers'),
    kill: entry('kill', container, 'Send a signal to running containers, SIGKILL by default'),
    logs: entry('logs', logs, 'Show the output of a container'),
    ls: entry('ls', container, 'List containers', 'ps', 'list'),
    pause: entry('pause', container, 'Pause all processes of containers'),
    port: entry('port', containerManage, 'Show the published ports of a container'),
    prune: entry('container', prune, 'Remove all stopped containers'),
    rename: entry('rename', containerManage, 'Give a container another name'),
    restart: entry('restart', container, 'Stop and start containers'),
    rm: entry('rm', container, 'Remove one or more containers', 'remove'),
    run: entry('run', containerRun, 'Create a container from an image and start it'),
    start: entry('start', containerRun, 'Start stopped containers'),
    stats: entry('stats', containerStats, 'Show what containers use, as it changes'),
    stop: entry('stop', container, 'Stop running containers'),
    top: entry('top', containerManage, 'Show the processes of a container'),
    unpause: entry('unpause', container, 'Let paused containers go on'),
    update: entry('update', containerManage, 'Change limits and restart policy of containers'),
    wait: entry('wait', container, 'Wait until containers stop, then print their exit codes'),
  },
};

const IMAGE: Group = {
  about: 'Manage images',
  commands: {
    history: entry('history', image, 'Show the layers of an image'),
    import: entry('import', transfer, "Make an image from a file system's tar archive"),
    inspect: entry('inspect', image, 'Show all facts of one or more images'),
    load: entry('load', transfer, 'Load images from a tar archive or standard input'),
    ls: entry('ls', image, 'List images', 'list'),
    prune: entry('image', prune, 'Remove unused images'),
    pull: entry('pull', transfer, 'Download an image from a registry'),
    push: entry('push', transfer, 'Upload an image to a registry'),
    rm: entry('rm', image, 'Remove one or more images', 'remove'),
    save: entry('save', transfer, 'Write images to a tar archive or standard output'),
    tag: entry('tag', image, 'Give an image another name'),
  },
};

const SYSTEM: Group = {
  about: 'Look at the daemon',
  commands: {
    df: entry('df', systemDf, 'Show how much of the disk is used'),
    events: entry('events', system, 'Show events as they happen'),
    info: entry('info', system, 'Show facts of the daemon and its swarm'),
    prune: entry('system', prune, 'Remove all that is unused'),
  },
};

const data = (noun: string, load: Entry['load']): Group => ({
  about: `Manage swarm ${noun}s`,
  commands: {
    create: entry('create', load, `Create a ${noun} from a file or standard input`),
    inspect: entry('inspect', load, `Show all facts of one or more ${noun}s`),
    ls: entry('ls', load, `List ${noun}s`, 'list'),
    rm: entry('rm', load, `Remove one or more ${noun}s`, 'remove'),
  },
});

/** Words with commands of their own. */
export const GROUPS: Readonly<Record<string, Group>> = {
  config: data('config', config),
  container: CONTAINER,
  image: IMAGE,
  network: {
    about: 'Manage networks',
    commands: {
      check: entry('check', networkCheck, 'Prove that networks work, and tell what is broken'),
      connect: entry('connect', network, 'Connect a container to a network'),
      create: entry('create', network, 'Create a network'),
      disconnect: entry('disconnect', network, 'Disconnect a container from a network'),
      inspect: entry('inspect', network, 'Show all facts of one or more networks'),
      ls: entry('ls', network, 'List networks', 'list'),
      prune: entry('prune', network, 'Remove all unused networks'),
      rm: entry('rm', network, 'Remove one or more networks', 'remove'),
      trace: entry('trace', networkCheck, 'Follow the way from a task to a port of another'),
    },
  },
  node: {
    about: 'Manage the nodes of the swarm',
    commands: {
      activate: entry('activate', nodeDrain, 'Let drained or paused nodes take tasks again'),
      demote: entry('demote', node, 'Make managers plain workers'),
      drain: entry('drain', nodeDrain, 'Move all tasks away from a node, as before maintenance'),
      inspect: entry('inspect', node, 'Show all facts of one or more nodes'),
      ls: entry('ls', node, 'List the nodes of the swarm', 'list'),
      promote: entry('promote', node, 'Make workers managers'),
      ps: entry('ps', node, 'List the tasks of one or more nodes, by default of this one'),
      rm: entry('rm', node, 'Remove nodes from the swarm', 'remove'),
      update: entry('update', node, 'Change a node'),
    },
  },
  plan: {
    about: 'Tell what a change would do, without making it',
    commands: {
      'node-down': entry('node-down', plan, 'The loss of a node'),
      'node-drain': entry('node-drain', plan, 'Draining a node'),
      'service create': entry('service create', plan, 'A new service'),
      'service rm': entry('service rm', plan, 'The removal of a service'),
      'service update': entry('service update', plan, 'A change of a service'),
    },
  },
  secret: data('secret', secret),
  service: {
    about: 'Manage swarm services',
    commands: {
      create: entry('create', serviceChange, 'Create a service'),
      diff: entry('diff', serviceHistory, 'Show what differs between two revisions of a service'),
      history: entry('history', serviceHistory, 'List the revisions of a service'),
      inspect: entry('inspect', service, 'Show all facts of one or more services'),
      logs: entry('logs', serviceLogs, 'Show the output of a service or a task'),
      ls: entry('ls', service, 'List services', 'list'),
      promote: entry('promote', serviceHistory, 'Let an update go on that waits after its first tasks'),
      ps: entry('ps', service, 'List the tasks of one or more services'),
      rebalance: entry('rebalance', serviceRebalance, 'Move tasks until they are level over the nodes'),
      rm: entry('rm', service, 'Remove one or more services', 'remove'),
      rollback: entry('rollback', serviceChange, 'Take back the last change of a service, or go to a revision'),
      run: entry('run', serviceRuns, 'Run a job now, whatever its schedule'),
      runs: entry('runs', serviceRuns, 'List the runs of a job that runs by the clock'),
      scale: entry('scale', serviceChange, 'Set the number of replicas of services'),
      stats: entry('stats', serviceStats, 'Show what the tasks of services use'),
      update: entry('update', serviceChange, 'Change a service'),
    },
  },
  swarm: {
    about: 'Form, join and manage a swarm',
    commands: {
      backup: entry('backup', swarmBackup, 'Save all state of the swarm to a file, or show what is in one'),
      ca: entry('ca', swarmSecrets, 'Show or rotate the root certificate'),
      init: entry('init', swarm, 'Begin a swarm'),
      join: entry('join', swarm, 'Join a swarm as worker or manager'),
      'join-token': entry('join-token', swarmSecrets, 'Show or rotate the token that nodes join with'),
      leave: entry('leave', swarm, 'Leave the swarm'),
      rejoin: entry('rejoin', swarmBackup, 'Tell a worker where the managers of its restored swarm are'),
      restore: entry('restore', swarmBackup, 'Begin a swarm again from a backup'),
      unlock: entry('unlock', swarmSecrets, 'Unlock a locked manager'),
      'unlock-key': entry('unlock-key', swarmSecrets, 'Show or rotate the key that unlocks managers'),
      update: entry('update', swarm, 'Change settings of the swarm'),
    },
  },
  system: SYSTEM,
  volume: {
    about: 'Manage volumes',
    commands: {
      create: entry('create', volume, 'Create a volume'),
      inspect: entry('inspect', volume, 'Show all facts of one or more volumes'),
      ls: entry('ls', volume, 'List volumes', 'list'),
      prune: entry('prune', volume, 'Remove unused volumes'),
      rm: entry('rm', volume, 'Remove one or more volumes', 'remove'),
    },
  },
};

const from = (group: Group, name: string): Entry => group.commands[name] as Entry;

/** Words that stand for a command at once. */
export const TOP: Readonly<Record<string, Entry>> = {
  attach: from(CONTAINER, 'attach'),
  commit: from(CONTAINER, 'commit'),
  completion: entry('completion', completion, 'Print a script that completes command lines in a shell'),
  cp: from(CONTAINER, 'cp'),
  create: from(CONTAINER, 'create'),
  diff: from(CONTAINER, 'diff'),
  doctor: entry('doctor', doctor, 'Check the stores of this host, and what containers left behind, and repair them'),
  events: from(SYSTEM, 'events'),
  exec: from(CONTAINER, 'exec'),
  export: from(CONTAINER, 'export'),
  history: from(IMAGE, 'history'),
  images: { ...from(IMAGE, 'ls'), aliases: [] },
  import: from(IMAGE, 'import'),
  info: from(SYSTEM, 'info'),
  inspect: entry('inspect', system, 'Show all facts of containers, images, networks, volumes and swarm objects'),
  kill: from(CONTAINER, 'kill'),
  load: from(IMAGE, 'load'),
  login: entry('login', login, 'Log in to a registry'),
  logout: entry('logout', login, 'Forget the credentials of a registry'),
  logs: from(CONTAINER, 'logs'),
  pause: from(CONTAINER, 'pause'),
  port: from(CONTAINER, 'port'),
  ps: { ...from(CONTAINER, 'ls'), aliases: [] },
  pull: from(IMAGE, 'pull'),
  push: from(IMAGE, 'push'),
  rename: from(CONTAINER, 'rename'),
  restart: from(CONTAINER, 'restart'),
  rm: from(CONTAINER, 'rm'),
  rmi: { ...from(IMAGE, 'rm'), aliases: [] },
  run: from(CONTAINER, 'run'),
  save: from(IMAGE, 'save'),
  start: from(CONTAINER, 'start'),
  stats: from(CONTAINER, 'stats'),
  stop: from(CONTAINER, 'stop'),
  tag: from(IMAGE, 'tag'),
  top: from(CONTAINER, 'top'),
  unpause: from(CONTAINER, 'unpause'),
  update: from(CONTAINER, 'update'),
  version: entry('version', system, 'Show versions of client and daemon'),
  wait: from(CONTAINER, 'wait'),
  why: entry('why', why, 'Tell why a task, a service or a node is as it is'),
};

/** Words that bin/shoal gives to other programs; they are named in the help page only. */
export const PROGRAMS: readonly (readonly [string, string])[] = [
  ['daemon', 'Run the daemon: engine, worker and manager of this host'],
  ['debug', 'Read the Raft log of a manager that is not running'],
  ['install', 'Install the daemon as a system service'],
  ['lab', 'Try a swarm of several hosts on this machine'],
];

export const COMMON: readonly string[] = ['run', 'exec', 'ps', 'images', 'pull', 'push', 'info', 'version'];
export const SWARM_GROUPS: readonly string[] = ['config', 'node', 'secret', 'service', 'swarm'];
