export { Daemon, type DaemonOptions } from './daemon.ts';
