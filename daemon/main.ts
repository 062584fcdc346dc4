import { stat } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import { createLogger, directSpawner, errorMessage, nativeSpawner, systemClock } from '../base/index.ts';
import { loadConfig } from './config.ts';
import { Daemon } from './daemon.ts';
import { openLogKeys } from './debug-keys.ts';
import { runDebug } from './debug.ts';
import { runDoctor } from './doctor.ts';
import { daemonHelp, parseFlags } from './flags.ts';
import { install } from './install.ts';
import { giveBackLater } from './start-memory.ts';
import { VERSION } from './version.ts';

/** A stop that takes longer than this is cut short, ms. */
const STOP_TIMEOUT_MS = 15_000;

/**
 * Gives this process more of the processor than what it starts: containers that take all they can get must not
 * make a manager miss its heartbeats. Without the right to do so the daemon runs on as it is.
 */
function preferOverContainers(): void {
  try {
    setPriority(constants.priority.PRIORITY_HIGH);
  } catch {
    // No CAP_SYS_NICE here.
  }
}

async function runDaemon(argv: readonly string[]): Promise<void> {
  const flags = parseFlags(argv);
  if (flags.help) {
    process.stdout.write(daemonHelp());
    return;
  }
  if (flags.version) {
    console.log(`Shoal version ${VERSION}`);
    return;
  }
  const config = loadConfig(flags.values, flags.warnings);
  const log = createLogger({ level: config.logLevel, fd: 2 });
  const spawner = nativeSpawner();
  // Priority is a thread's own, and threads and children inherit it: those of the pool, which start programs, are there
  // before it is raised, so that containers do not get it.
  await stat('/');
  preferOverContainers();
  process.on('unhandledRejection', (error) => log.error('a failure nobody waited for', { error }));
  const gitCommit = process.env['SHOAL_GIT_COMMIT'] ?? '';
  const daemon = await Daemon.start({
    ...{ config, log, spawner, version: VERSION, gitCommit },
    setLogLevel: (level) => log.setLevel(level),
  }).catch((error: unknown) => {
    spawner.close();
    throw error;
  });
  giveBackLater(systemClock);
  const stop = (signal: string): void => {
    log.info('stopping; containers go on', { signal });
    setTimeout(() => {
      log.error('not everything ended in time', { timeoutMs: STOP_TIMEOUT_MS });
      process.exit(1);
    }, STOP_TIMEOUT_MS).unref();
    void daemon.stop().then(() => {
      spawner.close();
      process.exit(0);
    });
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  process.on('SIGHUP', () => {
    try {
      const fresh = loadConfig(flags.values, flags.warnings);
      daemon.reload(fresh);
    } catch (error) {
      log.error('the configuration was not read again; the former one stays', { error });
    }
  });
}

const [verb, ...rest] = process.argv.slice(2);
try {
  if (verb === 'install') for (const line of await install(directSpawner)) console.log(line);
  else if (verb === 'doctor') process.exitCode = await runDoctor(rest, (text) => void process.stdout.write(text));
  else if (verb === 'debug') {
    process.exitCode = runDebug(rest, (text) => void process.stdout.write(text), openLogKeys);
  } else await runDaemon(rest);
} catch (error) {
  console.error(`shoal: ${errorMessage(error)}`);
  process.exitCode = 1;
}
