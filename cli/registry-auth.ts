import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { imageRegistry } from './words.ts';

interface AuthEntry {
  auth?: string;
  username?: string;
  password?: string;
  identitytoken?: string;
  registrytoken?: string;
  serveraddress?: string;
}

/** Parts of docker's client settings that matter here. */
export interface ConfigFile {
  /** Keys that end an attached client. */
  detachKeys?: string;
  auths?: Record<string, AuthEntry>;
  credsStore?: string;
  credHelpers?: Record<string, string>;
}

/** The key of Docker Hub's credentials. */
export const HUB_KEY = 'https://index.docker.io/v1/';
/** Longest answer time of a credential helper, ms. */
const HELPER_TIMEOUT_MS = 10_000;

/** Docker's client settings; empty when there are none. @throws Error for a file that is no JSON */
export function configFile(configDir: string): ConfigFile {
  const path = join(configDir, 'config.json');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw error;
  }
  try {
    return JSON.parse(text) as ConfigFile;
  } catch (error) {
    throw new Error(`${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Asks a credential helper (`docker-credential-NAME get`); undefined when it knows nothing. */
function helperEntry(helper: string, key: string): AuthEntry | undefined {
  try {
    const options = {
      input: key,
      encoding: 'utf8',
      timeout: HELPER_TIMEOUT_MS,
      stdio: 'pipe',
    } as const;
    const text = execFileSync(`docker-credential-${helper}`, ['get'], options);
    const { Username, Secret } = JSON.parse(text) as { Username: string; Secret: string };
    return Username === '<token>' ? { identitytoken: Secret } : { username: Username, password: Secret };
  } catch {
    return undefined;
  }
}

/** An entry with its name and password apart. */
type Credentials = Omit<AuthEntry, 'auth'> & { username: string; password: string };

/** Credentials of a registry by its key (host, or Docker Hub's URL); undefined when there are none. */
export function credentialsOf(configDir: string, key: string): Credentials | undefined {
  const config = configFile(configDir);
  const helper = config.credHelpers?.[key] ?? config.credsStore;
  const stored = Object.entries(config.auths ?? {}).find(
    ([name]) => name === key || name.replace(/^https?:\/\//, '').replace(/\/.*$/, '') === key,
  )?.[1];
  const entry = helper === undefined ? stored : (helperEntry(helper, key) ?? stored);
  if (entry === undefined) return undefined;
  const { auth = '', ...rest } = entry;
  const decoded = Buffer.from(auth, 'base64').toString('utf8').replace(/\0+$/, '');
  const colon = decoded.indexOf(':');
  const names = colon < 0 ? {} : { username: decoded.slice(0, colon), password: decoded.slice(colon + 1) };
  return { username: '', password: '', ...names, ...rest };
}

/**
 * Value of X-Registry-Auth for an image: credentials of its registry from docker's client settings, base64url JSON.
 * `{}` when there are none.
 */
export function registryAuth(configDir: string, image: string): string {
  const registry = imageRegistry(image);
  const key = registry === 'docker.io' ? HUB_KEY : registry;
  const found = credentialsOf(configDir, key);
  if (found === undefined) return `${Buffer.from('{}').toString('base64url')}=`;
  const given = Object.fromEntries(Object.entries(found).filter(([, value]) => value !== ''));
  const json = Buffer.from(JSON.stringify({ ...given, serveraddress: key })).toString('base64');
  return json.replaceAll('+', '-').replaceAll('/', '_');
}
