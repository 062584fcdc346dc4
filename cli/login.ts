/** `login` and `logout`: credentials of registries, kept in docker's own client settings. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { errorMessage } from '../base/index.ts';
import { DaemonError } from './client.ts';
import { between, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import { configFile, credentialsOf, HUB_KEY, type ConfigFile } from './registry-auth.ts';

/** The registry alone: no scheme, no path. */
const hostOf = (server: string): string => server.replace(/^https?:\/\//, '').replace(/\/.*$/, '');

/** The key under which docker keeps a registry's credentials. */
const keyOf = (server: string): string => (['', 'docker.io', HUB_KEY].includes(server) ? HUB_KEY : hostOf(server));

/** Writes the settings whole or not at all; they are their owner's alone. */
function writeConfig(context: Context, config: ConfigFile): void {
  const path = join(context.configDir, 'config.json');
  mkdirSync(context.configDir, { recursive: true, mode: 0o700 });
  const fresh = `${path}.${process.pid}`;
  writeFileSync(fresh, JSON.stringify(config, undefined, '\t'), { mode: 0o600 });
  chmodSync(fresh, 0o600);
  renameSync(fresh, path);
}

/** Gives a helper program something to keep or to forget. @throws Error with what it said */
function tellHelper(helper: string, verb: 'store' | 'erase', input: string): void {
  const program = `docker-credential-${helper}`;
  const { status, error, stdout } = spawnSync(program, [verb], { input, encoding: 'utf8' });
  if (error !== undefined) throw new Error(`Error saving credentials: ${errorMessage(error)}`);
  if (status !== 0) throw new Error(`Error saving credentials: ${stdout.trim() || `${program} ended with ${status}`}`);
}

interface Credentials {
  username: string;
  password: string;
  identitytoken?: string;
}

function store(context: Context, key: string, { username, password, identitytoken }: Credentials): void {
  const config = configFile(context.configDir);
  const helper = config.credHelpers?.[key] ?? config.credsStore ?? '';
  const token = identitytoken ?? '';
  if (helper !== '') {
    const [Username, Secret] = token === '' ? [username, password] : ['<token>', token];
    tellHelper(helper, 'store', JSON.stringify({ ServerURL: key, Username, Secret }));
    return;
  }
  const auth = Buffer.from(`${username}:${token === '' ? password : ''}`).toString('base64');
  const entry = token === '' ? { auth } : { auth, identitytoken: token };
  const isKnown = config.auths?.[key]?.auth === auth;
  const entries = Object.entries({ ...config.auths, [key]: entry }).toSorted(([a], [b]) => (a < b ? -1 : 1));
  writeConfig(context, { ...config, auths: Object.fromEntries(entries) });
  if (isKnown || token !== '') return;
  const lines = [
    '',
    `WARNING! Your credentials are stored unencrypted in '${join(context.configDir, 'config.json')}'.`,
    'Configure a credential helper to remove this warning. See',
    'https://docs.docker.com/go/credential-store/',
    '',
  ];
  say(context.err, lines.join('\n'));
}

async function question(context: Context, text: string, isSecret: boolean): Promise<string> {
  const echo = (on: boolean): void => {
    if (isSecret) spawnSync('stty', [on ? 'echo' : '-echo'], { stdio: ['inherit', 'ignore', 'ignore'] });
  };
  const give = (): void => echo(true);
  process.once('exit', give);
  context.out.write(text);
  echo(false);
  const reader = createInterface({ input: context.input, terminal: false });
  try {
    for await (const line of reader) return line.trim();
    return '';
  } finally {
    reader.close();
    give();
    process.off('exit', give);
    if (isSecret) context.out.write('\n');
  }
}

async function ask(context: Context, flags: Flags, known: string): Promise<Credentials> {
  let username = flags.string('username').trim();
  let password = flags.string('password');
  if ((username === '' || password === '') && !context.input.isTTY) {
    throw new Error('Error: Cannot perform an interactive login from a non TTY device');
  }
  if (username === '') {
    username = (await question(context, known === '' ? 'Username: ' : `Username (${known}): `, false)) || known;
    if (username === '') throw new Error('Error: Non-null Username Required');
  }
  if (password === '') password = await question(context, 'Password: ', true);
  if (password === '') throw new Error('Error: Password Required');
  return { username, password };
}

async function readPassword(context: Context): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of context.input as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8').replace(/\n$/, '').replace(/\r$/, '');
}

function checkFlags(flags: Flags): void {
  if (flags.changed('password-stdin')) {
    if (flags.changed('password')) {
      throw new Error('conflicting options: cannot specify both --password and --password-stdin');
    }
    if (!flags.changed('username')) throw new Error('the --password-stdin option requires --username to be set');
  }
  if (flags.changed('username') && flags.string('username') === '') throw new Error('username is empty');
  if (flags.changed('password') && flags.string('password') === '') throw new Error('password is empty');
}

/** Asks the daemon to try credentials at the registry, and keeps them when they are good. */
async function tryLogin(context: Context, key: string, given: Credentials): Promise<void> {
  const body = { username: given.username, password: given.password, serveraddress: key };
  const answer = await context.client.post<{ Status: string; IdentityToken?: string }>('/auth', body);
  store(context, key, { ...given, identitytoken: answer.IdentityToken ?? '' });
  if (answer.Status !== '') say(context.out, answer.Status);
}

async function login(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  checkFlags(flags);
  const key = keyOf(words[0] ?? '');
  const username = flags.string('username');
  if (flags.changed('password')) {
    say(context.err, 'WARNING! Using --password via the CLI is insecure. Use --password-stdin.');
  }
  if (flags.bool('password-stdin')) {
    return tryLogin(context, key, { username: username.trim(), password: await readPassword(context) });
  }
  const known = credentialsOf(context.configDir, key);
  if (username === '' && known !== undefined && known.username !== '' && known.password !== '') {
    say(context.err, `Authenticating with existing credentials... [Username: ${known.username}]\n`);
    try {
      return await tryLogin(context, key, known);
    } catch (error) {
      const refused = error instanceof DaemonError && error.code === 'Unauthenticated';
      const text = refused
        ? 'Stored credentials invalid or expired'
        : `Login did not succeed, error: ${errorMessage(error)}`;
      say(context.err, text);
    }
  }
  await tryLogin(context, key, await ask(context, flags, username === '' ? (known?.username ?? '') : ''));
}

function logout(context: Context, _flags: Flags, words: readonly string[]): Promise<void> {
  const server = words[0] ?? '';
  const key = keyOf(server);
  say(context.out, `Removing login credentials for ${key === HUB_KEY ? HUB_KEY : hostOf(server)}`);
  const config = configFile(context.configDir);
  // Credentials may have been kept under any of these.
  const keys = key === HUB_KEY ? [key] : [server, key, `http://${key}`, `https://${key}`];
  for (const one of keys) {
    const helper = config.credHelpers?.[one] ?? config.credsStore ?? '';
    if (helper === '') continue;
    try {
      tellHelper(helper, 'erase', one);
    } catch (error) {
      say(context.err, `WARNING: could not erase credentials:\n${one}: ${errorMessage(error)}`);
    }
  }
  const { auths } = config;
  if (auths !== undefined && keys.some((one) => Object.hasOwn(auths, one))) {
    const left = Object.fromEntries(Object.entries(auths).filter(([one]) => !keys.includes(one)));
    writeConfig(context, { ...config, auths: left });
  }
  return Promise.resolve();
}

export const loginCommands: CommandGroup = {
  login: {
    usage: '[SERVER]',
    arguments: between(0, 1),
    options: [
      option('password,p', 'string', 'Password or Personal Access Token (PAT)'),
      option('password-stdin', 'bool', 'Take the Password or Personal Access Token (PAT) from stdin'),
      option('username,u', 'string', 'Username'),
    ],
    run: login,
  },
  logout: { usage: '[SERVER]', arguments: between(0, 1), run: logout },
};
