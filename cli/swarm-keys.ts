import { between, exactly, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import { ProgressDisplay } from './json-stream.ts';
import type { Flags } from './options.ts';
import type { Node, Swarm, SwarmInfo } from './objects.ts';
import { CA_OPTIONS, editCa, printJoinCommand, printUnlockKey, readPem, unlockKey } from './swarm.ts';

const POLL_MS = 200;

interface Rotation {
  worker?: boolean;
  manager?: boolean;
  unlockKey?: boolean;
}

async function updateSwarm(context: Context, swarm: Swarm, rotate: Rotation): Promise<void> {
  await context.client.post('/swarm/update', swarm.Spec, {
    version: swarm.Version.Index,
    rotateWorkerToken: String(rotate.worker ?? false),
    rotateManagerToken: String(rotate.manager ?? false),
    rotateManagerUnlockKey: String(rotate.unlockKey ?? false),
  });
}

async function joinToken(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client } = context;
  const role = words[0] ?? '';
  if (role !== 'worker' && role !== 'manager') throw new Error(`unknown role ${role}`);
  const quiet = flags.bool('quiet');
  if (flags.bool('rotate')) {
    await updateSwarm(context, await client.get<Swarm>('/swarm'), { [role]: true });
    if (!quiet) say(context.out, `Successfully rotated ${role} join token.\n`);
  }
  const swarm = await client.get<Swarm>('/swarm');
  if (quiet) {
    say(context.out, role === 'worker' ? swarm.JoinTokens.Worker : swarm.JoinTokens.Manager);
    return;
  }
  const info = await client.get<{ Swarm: SwarmInfo }>('/info');
  await printJoinCommand(context, info.Swarm.NodeID ?? '', role);
}

async function showUnlockKey(context: Context, flags: Flags): Promise<void> {
  const { client } = context;
  const quiet = flags.bool('quiet');
  if (flags.bool('rotate')) {
    const swarm = await client.get<Swarm>('/swarm');
    if (swarm.Spec.EncryptionConfig?.AutoLockManagers !== true) {
      throw new Error('cannot rotate because autolock is not turned on');
    }
    await updateSwarm(context, swarm, { unlockKey: true });
    if (!quiet) say(context.out, 'Successfully rotated manager unlock key.');
  }
  const key = await unlockKey(client);
  if (key === '') throw new Error('no unlock key is set');
  if (quiet) say(context.out, key);
  else await printUnlockKey(context, key);
}

/** One line of standard input; on a terminal it is asked for, and what is typed is not shown. */
export async function readSecret(context: Context, prompt: string): Promise<string> {
  const { input } = context;
  if (!input.isTTY) {
    let text = '';
    for await (const chunk of input as AsyncIterable<Buffer>) {
      text += chunk.toString('utf8');
      if (text.includes('\n')) break;
    }
    return text.split('\n')[0]?.trim() ?? '';
  }
  context.out.write(prompt);
  input.setRawMode(true);
  let key = '';
  try {
    for await (const chunk of input as AsyncIterable<Buffer>) {
      const text = chunk.toString('utf8');
      if (text.includes('\u0003')) throw new Error('interrupted');
      for (const letter of text) key = letter === '\u007f' || letter === '\b' ? key.slice(0, -1) : key + letter;
      if (/[\r\n]/.test(key)) break;
    }
  } finally {
    input.setRawMode(false);
    input.destroy();
    context.out.write('\n');
  }
  return key.trim();
}

async function unlock(context: Context): Promise<void> {
  const { client } = context;
  const { Swarm } = await client.get<{ Swarm: SwarmInfo }>('/info');
  if (Swarm.LocalNodeState === 'inactive') throw new Error('error: this node is not part of a swarm');
  if (Swarm.LocalNodeState !== 'locked') throw new Error('error: swarm is not locked');
  await client.post('/swarm/unlock', { UnlockKey: await readSecret(context, 'Enter unlock key: ') });
}

function printTrustRoot(context: Context, swarm: Swarm): void {
  const root = (swarm.TLSInfo.TrustRoot ?? '').trim();
  if (root === '') throw new Error('No CA information available');
  say(context.out, root);
}

const sameTls = (left: Swarm['TLSInfo'], right: Swarm['TLSInfo'] | undefined): boolean =>
  left.TrustRoot === right?.TrustRoot &&
  left.CertIssuerPublicKey === right?.CertIssuerPublicKey &&
  left.CertIssuerSubject === right?.CertIssuerSubject;

/** Waits until every node has a certificate of the new root and the rotation has ended. */
async function waitForRotation(context: Context, quiet: boolean): Promise<void> {
  const { client, clock } = context;
  const silent = { write: () => undefined, isTerminal: false, columns: 0 };
  const display = new ProgressDisplay(quiet ? silent : context.out, clock);
  let stopped = false;
  const stopListening = context.onInterrupt(() => (stopped = true));
  try {
    while (!stopped) {
      const swarm = await client.get<Swarm>('/swarm');
      const nodes = await client.get<Node[]>('/nodes');
      const rotated = nodes.filter((node) => sameTls(swarm.TLSInfo, node.Description.TLSInfo)).length;
      const trusting = nodes.filter((node) => node.Description.TLSInfo?.TrustRoot === swarm.TLSInfo.TrustRoot).length;
      const show = (id: string, count: number): void =>
        display.show({
          id,
          status: `${count}/${nodes.length} nodes`,
          progressDetail: { current: count, total: nodes.length, hidecounts: true },
        });
      show('rotated TLS certificates', rotated);
      show('rotated CA certificates', trusting);
      if (swarm.RootRotationInProgress !== true && rotated === nodes.length && trusting === nodes.length) return;
      await clock.sleep(POLL_MS);
    }
    display.show({ status: 'Operation continuing in background.' });
  } finally {
    stopListening();
  }
}

async function ca(context: Context, flags: Flags): Promise<void> {
  const { client } = context;
  const swarm = await client.get<Swarm>('/swarm');
  if (!flags.bool('rotate')) {
    for (const name of ['ca-cert', 'ca-key', 'cert-expiry', 'external-ca']) {
      if (flags.changed(name)) throw new Error(`\`--${name}\` flag requires the \`--rotate\` flag to update the CA`);
    }
    printTrustRoot(context, swarm);
    return;
  }
  if (flags.changed('external-ca') && !flags.changed('ca-cert')) {
    throw new Error(
      "rotating to an external CA requires the `--ca-cert` flag to specify the external CA's cert - to add an external CA with the current root CA certificate, use the `update` command instead",
    );
  }
  if (flags.changed('ca-cert') && !flags.changed('external-ca') && !flags.changed('ca-key')) {
    throw new Error('the --ca-cert flag requires that a --ca-key flag and/or --external-ca flag be provided as well');
  }
  const certificate = flags.string('ca-cert');
  const key = flags.string('ca-key');
  editCa(swarm.Spec, flags, certificate);
  const config = (swarm.Spec.CAConfig ??= {});
  config.SigningCACert = certificate;
  config.SigningCAKey = key;
  if (certificate === '' && key === '') config.ForceRotate = (config.ForceRotate ?? 0) + 1;
  await updateSwarm(context, swarm, {});
  if (flags.bool('detach')) return;
  await waitForRotation(context, flags.bool('quiet'));
  if (!flags.bool('quiet')) printTrustRoot(context, await client.get<Swarm>('/swarm'));
}

export const swarmKeyCommands: CommandGroup = {
  'join-token': {
    usage: '(worker|manager)',
    arguments: exactly(1),
    options: [
      option('quiet,q', 'bool', 'Only display the token'),
      option('rotate', 'bool', 'Make a new token; the old one is void'),
    ],
    run: joinToken,
  },
  'unlock-key': {
    usage: '',
    arguments: exactly(0),
    options: [option('quiet,q', 'bool', 'Only display the key'), option('rotate', 'bool', 'Make a new key')],
    run: showUnlockKey,
  },
  unlock: { usage: '', arguments: between(0, 0), run: unlock },
  ca: {
    usage: '',
    arguments: exactly(0),
    options: [
      ...CA_OPTIONS,
      option('rotate', 'bool', 'Change the root certificate; a new one is made when none is given'),
      option('ca-cert', 'pem-file', 'File of the new root certificate', { parse: readPem, initial: '' }),
      option('ca-key', 'pem-file', 'File of its key', { parse: readPem, initial: '' }),
      option('detach,d', 'bool', 'Return at once'),
      option('quiet,q', 'bool', 'Show no progress'),
    ],
    run: ca,
  },
};
