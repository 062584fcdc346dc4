/** Reader of `--mount`. */
import { resolve } from 'node:path';
import type { Mount } from './objects.ts';
import { parseBoolean, parseBytes } from './units.ts';
import { csvFields, cut } from './words.ts';

interface MountParts {
  BindOptions: {
    Propagation?: string;
    NonRecursive?: boolean;
    ReadOnlyNonRecursive?: boolean;
    ReadOnlyForceRecursive?: boolean;
  };
  VolumeOptions: {
    NoCopy?: boolean;
    Subpath?: string;
    Labels: Record<string, string>;
    DriverConfig: { Name?: string; Options?: Record<string, string> };
  };
  ImageOptions: { Subpath?: string };
  TmpfsOptions: { SizeBytes?: number; Mode?: number };
}

const MOUNT_OPTION_TYPES: Readonly<Record<keyof MountParts, string>> = {
  VolumeOptions: 'volume',
  ImageOptions: 'image',
  BindOptions: 'bind',
  TmpfsOptions: 'tmpfs',
};

function flagOf(key: string, text: string): boolean {
  try {
    return parseBoolean(text);
  } catch {
    throw new Error(`invalid value for ${key}: ${text}`);
  }
}

function setBindRecursive(bind: MountParts['BindOptions'], text: string): void {
  if (text === 'disabled') bind.NonRecursive = true;
  else if (text === 'writable') bind.ReadOnlyNonRecursive = true;
  else if (text === 'readonly') bind.ReadOnlyForceRecursive = true;
  else if (text !== 'enabled') {
    throw new Error(
      `invalid value for bind-recursive: ${text} (must be "enabled", "disabled", "writable", or "readonly")`,
    );
  }
}

function setPair(map: Record<string, string>, text: string): void {
  const [key, value] = cut(text, '=');
  if (key !== '') map[key] = value ?? '';
}

/** Sets one option that belongs to a type of mount; false when the key is none of these. */
function setTypedOption(mount: Mount, key: string, text: string): boolean {
  const part = <K extends keyof MountParts>(name: K, initial: MountParts[K]): MountParts[K] =>
    (mount[name] ??= initial) as MountParts[K];
  const volume = (): MountParts['VolumeOptions'] => part('VolumeOptions', { Labels: {}, DriverConfig: {} });
  const bind = (): MountParts['BindOptions'] => part('BindOptions', {});
  switch (key) {
    case 'bind-propagation':
      bind().Propagation = text.toLowerCase();
      return true;
    case 'bind-nonrecursive':
      bind().NonRecursive = flagOf(key, text);
      return true;
    case 'bind-recursive':
      setBindRecursive(bind(), text);
      return true;
    case 'volume-subpath':
      volume().Subpath = text;
      return true;
    case 'volume-nocopy':
      volume().NoCopy = flagOf(key, text);
      return true;
    case 'volume-label':
      setPair(volume().Labels, text);
      return true;
    case 'volume-driver':
      volume().DriverConfig.Name = text;
      return true;
    case 'volume-opt':
      setPair((volume().DriverConfig.Options ??= {}), text);
      return true;
    case 'image-subpath':
      part('ImageOptions', {}).Subpath = text;
      return true;
    case 'tmpfs-size':
      try {
        part('TmpfsOptions', {}).SizeBytes = parseBytes(text);
      } catch {
        throw new Error(`invalid value for ${key}: ${text}`);
      }
      return true;
    case 'tmpfs-mode':
      if (!/^[0-7]+$/.test(text)) throw new Error(`invalid value for ${key}: ${text}`);
      part('TmpfsOptions', {}).Mode = Number.parseInt(text, 8);
      return true;
    default:
      return false;
  }
}

function checkMount(mount: Mount): void {
  if (mount.Type === '') throw new Error('type is required');
  if (mount.Target === '') throw new Error('target is required');
  for (const [part, type] of Object.entries(MOUNT_OPTION_TYPES)) {
    if (mount[part] !== undefined && mount.Type !== type) {
      throw new Error(`cannot mix '${type}-*' options with mount type '${mount.Type}'`);
    }
  }
  const bind = mount['BindOptions'] as MountParts['BindOptions'] | undefined;
  if (bind?.ReadOnlyNonRecursive === true && mount.ReadOnly !== true) {
    throw new Error("option 'bind-recursive=writable' requires 'readonly' to be specified in conjunction");
  }
  if (bind?.ReadOnlyForceRecursive !== true) return;
  if (mount.ReadOnly !== true) {
    throw new Error("option 'bind-recursive=readonly' requires 'readonly' to be specified in conjunction");
  }
  if (bind.Propagation !== 'rprivate') {
    throw new Error(
      "option 'bind-recursive=readonly' requires 'bind-propagation=rprivate' to be specified in conjunction",
    );
  }
}

/** A mount of `--mount`: `type=…,source=…,target=…` and the options of its type. */
export function parseMount(value: string): Mount {
  const mount: Mount = { Type: 'volume', Target: '' };
  for (const field of csvFields(value)) {
    const [rawKey, text] = cut(field, '=');
    const key = rawKey.toLowerCase();
    if (text === undefined) {
      if (key === 'readonly' || key === 'ro') mount.ReadOnly = true;
      else if (key === 'volume-nocopy' || key === 'bind-nonrecursive') setTypedOption(mount, key, 'true');
      else throw new Error(`invalid field '${field}' must be a key=value pair`);
    } else if (key === 'type') mount.Type = text.toLowerCase();
    else if (key === 'source' || key === 'src') mount.Source = text.startsWith('.') ? resolve(text) : text;
    else if (['target', 'dst', 'destination'].includes(key)) mount.Target = text;
    else if (key === 'readonly' || key === 'ro') mount.ReadOnly = flagOf(key, text);
    else if (key === 'consistency') mount['Consistency'] = text.toLowerCase();
    else if (!setTypedOption(mount, key, text)) throw new Error(`unexpected key '${key}' in '${field}'`);
  }
  checkMount(mount);
  // The API leaves empty fields out.
  if (mount.ReadOnly === false) delete mount.ReadOnly;
  const volume = mount['VolumeOptions'] as Partial<MountParts['VolumeOptions']> | undefined;
  if (volume !== undefined && Object.keys(volume.Labels ?? {}).length === 0) delete volume.Labels;
  return mount;
}
