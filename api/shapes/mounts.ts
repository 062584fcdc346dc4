import { invalidArgument } from '../../base/index.ts';
import type { JsonObject, MountRequestFacts } from '../ports.ts';
import { mapOrNothing, orNothing, type Fields } from './fields.ts';

const PROPAGATION = /^r?(private|shared|slave)$/;
/** Words behind the second colon of `-v`; one of each group may stand there. */
const MODE_GROUPS: readonly RegExp[] = [
  /^(ro|rw)$/i,
  /^[zZ]$/,
  PROPAGATION,
  /^nocopy$/,
  /^(default|consistent|cached|delegated)$/,
];

function isMode(text: string): boolean {
  if (text === '') return true;
  const groups = text.split(',').map((word) => MODE_GROUPS.findIndex((group) => group.test(word)));
  return !groups.includes(-1) && new Set(groups).size === groups.length;
}

/** One entry of HostConfig.Binds: `source:target[:words]`, or a target alone. A source that is no path is a volume. */
function bindFromText(text: string, volumeDriver: string): MountRequestFacts {
  const parts = text.split(':');
  const wrong = (): Error => invalidArgument(`invalid volume specification: '${text}'`);
  if (parts[0] === '' || parts.length > 3) throw wrong();
  if (parts.length === 2 && isMode(parts[1] ?? '')) throw wrong();
  const [source = '', target = '', mode = ''] = parts.length === 1 ? ['', parts[0]] : parts;
  if (!isMode(mode)) throw invalidArgument(`invalid mode: ${mode}`);
  const words = mode.split(',');
  const type = source.startsWith('/') ? ('bind' as const) : ('volume' as const);
  const propagation = words.find((word) => PROPAGATION.test(word));
  if (type === 'volume' && propagation !== undefined) {
    const why = 'invalid mount config for type "volume": field BindOptions must not be specified';
    throw invalidArgument(`invalid volume specification: '${text}': ${why}`);
  }
  return {
    ...{ type, source, target, readOnly: words.includes('ro'), from: 'bind' as const },
    ...(type === 'bind' ? { createMountpoint: true } : {}),
    ...(type === 'volume' && volumeDriver !== '' ? { volumeDriver } : {}),
    ...(propagation === undefined ? {} : { propagation }),
    ...(words.includes('nocopy') ? { noCopy: true } : {}),
    ...(mode === '' ? {} : { mode }),
  };
}

/** HostConfig.Tmpfs: a place and options of mount(8). */
function tmpfsFromText(target: string, mode: string): MountRequestFacts {
  const words = mode.split(',').filter((word) => word !== '');
  const common = { type: 'tmpfs' as const, source: '', target, readOnly: words.includes('ro') };
  return { ...common, from: 'tmpfs', mode, tmpfsOptions: words };
}

const TYPES = { bind: 'bind', volume: 'volume', tmpfs: 'tmpfs', image: 'image' } as const;
const OWN_OPTIONS = { bind: 'BindOptions', volume: 'VolumeOptions', tmpfs: 'TmpfsOptions', image: 'ImageOptions' };

/** One object of HostConfig.Mounts. */
function mountFromJson(json: Fields): MountRequestFacts {
  const word = json.string('Type');
  const type = Object.hasOwn(TYPES, word) ? TYPES[word as keyof typeof TYPES] : undefined;
  const wrong = (why: string): Error => invalidArgument(`invalid mount config for type "${word}": ${why}`);
  if (type === undefined) throw wrong('mount type unknown');
  for (const [other, key] of Object.entries(OWN_OPTIONS)) {
    // A tmpfs' options beside another type are passed over, as in Docker.
    if (other !== type && other !== 'tmpfs' && json.has(key)) throw wrong(`field ${key} must not be specified`);
  }
  const consistency = json.string('Consistency');
  return {
    type,
    source: json.string('Source'),
    target: json.string('Target'),
    readOnly: json.bool('ReadOnly'),
    ...(consistency === '' ? {} : { consistency }),
    ...bindOptions(type === 'bind' ? json.object('BindOptions') : undefined),
    ...volumeOptions(type === 'volume' ? json.object('VolumeOptions') : undefined),
    ...tmpfsOptions(type === 'tmpfs' ? json.object('TmpfsOptions') : undefined, wrong),
    ...imageOptions(type === 'image' ? json.object('ImageOptions') : undefined),
  };
}

type Part = Partial<MountRequestFacts>;

function bindOptions(json: Fields | undefined): Part {
  if (json === undefined) return {};
  const propagation = json.string('Propagation');
  return {
    ...(propagation === '' ? {} : { propagation }),
    ...(json.bool('CreateMountpoint') ? { createMountpoint: true } : {}),
    ...(json.bool('NonRecursive') ? { nonRecursive: true } : {}),
    ...(json.bool('ReadOnlyNonRecursive') ? { readOnlyNonRecursive: true } : {}),
    ...(json.bool('ReadOnlyForceRecursive') ? { readOnlyForceRecursive: true } : {}),
  };
}

function volumeOptions(json: Fields | undefined): Part {
  if (json === undefined) return {};
  const driver = json.object('DriverConfig');
  const [volumeDriver, volumeSubpath] = [driver?.string('Name') ?? '', json.string('Subpath')];
  const [labels, options] = [json.stringMap('Labels'), driver?.stringMap('Options') ?? {}];
  return {
    ...(json.bool('NoCopy') ? { noCopy: true } : {}),
    ...(Object.keys(labels).length === 0 ? {} : { volumeLabels: labels }),
    ...(volumeSubpath === '' ? {} : { volumeSubpath }),
    ...(volumeDriver === '' ? {} : { volumeDriver }),
    ...(Object.keys(options).length === 0 ? {} : { volumeOptions: options }),
  };
}

function tmpfsOptions(json: Fields | undefined, wrong: (why: string) => Error): Part {
  if (json === undefined) return {};
  const [size, mode] = [json.number('SizeBytes'), json.number('Mode')];
  const options = json.stringLists('Options').map((words) => {
    if (words.length < 1 || words.length > 2) throw wrong('invalid option array length');
    if (words[0] !== 'exec' && words[0] !== 'noexec') throw wrong(`invalid option: ${words[0] ?? ''}`);
    return words.join('=');
  });
  return {
    ...(size === 0 ? {} : { tmpfsSizeBytes: size }),
    ...(mode === 0 ? {} : { tmpfsMode: mode }),
    ...(options.length === 0 ? {} : { tmpfsOptions: options }),
  };
}

function imageOptions(json: Fields | undefined): Part {
  const imageSubpath = json?.string('Subpath') ?? '';
  return imageSubpath === '' ? {} : { imageSubpath };
}

/** Everything that HostConfig mounts: Binds, Mounts and Tmpfs. @throws ShoalError InvalidArgument */
export function mountsFromJson(host: Fields | undefined): MountRequestFacts[] {
  const driver = host?.string('VolumeDriver') ?? '';
  const tmpfs = host?.stringMap('Tmpfs') ?? {};
  return [
    ...(host?.strings('Binds') ?? []).map((text) => bindFromText(text, driver)),
    ...(host?.objects('Mounts') ?? []).map(mountFromJson),
    ...Object.entries(tmpfs).map(([target, mode]) => tmpfsFromText(target, mode)),
  ];
}

function mountToJson(mount: MountRequestFacts): JsonObject {
  const bind = {
    Propagation: mount.propagation || undefined,
    NonRecursive: mount.nonRecursive,
    CreateMountpoint: mount.createMountpoint || undefined,
    ReadOnlyNonRecursive: mount.readOnlyNonRecursive,
    ReadOnlyForceRecursive: mount.readOnlyForceRecursive,
  };
  const driver = { Name: mount.volumeDriver, Options: mapOrNothing(mount.volumeOptions ?? {}) };
  const volume = {
    NoCopy: mount.noCopy || undefined,
    Labels: mapOrNothing(mount.volumeLabels ?? {}),
    Subpath: mount.volumeSubpath,
    DriverConfig: orNothing(driver),
  };
  const tmpfs = {
    SizeBytes: mount.tmpfsSizeBytes,
    Mode: mount.tmpfsMode,
    Options: mount.tmpfsOptions?.map((option) => option.split('=')),
  };
  return {
    Type: mount.type,
    Source: mount.source || undefined,
    Target: mount.target,
    ReadOnly: mount.readOnly || undefined,
    Consistency: mount.consistency,
    BindOptions: mount.type === 'bind' ? orNothing(bind) : undefined,
    VolumeOptions: mount.type === 'volume' ? orNothing(volume) : undefined,
    TmpfsOptions: mount.type === 'tmpfs' ? orNothing(tmpfs) : undefined,
    ImageOptions: orNothing({ Subpath: mount.imageSubpath }),
  };
}

/** Binds, Tmpfs and Mounts of a HostConfig, as they were asked for. */
export function mountsToHostConfig(mounts: readonly MountRequestFacts[]): JsonObject {
  const binds = mounts
    .filter(({ from }) => from === 'bind')
    .map(({ source, target, mode }) => [source, target, mode ?? ''].filter((part) => part !== '').join(':'));
  const tmpfs = mounts.filter(({ from }) => from === 'tmpfs').map(({ target, mode }) => [target, mode ?? '']);
  const plain = mounts.filter(({ from }) => from === undefined);
  return {
    Binds: binds.length === 0 ? null : binds,
    Tmpfs: tmpfs.length === 0 ? undefined : (Object.fromEntries(tmpfs) as JsonObject),
    Mounts: plain.length === 0 ? undefined : plain.map(mountToJson),
  };
}
