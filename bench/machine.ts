import { readFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';

/** The machine that figures were measured on, as stored with them. */
export function machineFacts(): { cpu: string; cpus: number; memoryBytes: number; kernel: string; system: string } {
  return {
    cpu: cpus()[0]?.model ?? '',
    cpus: cpus().length,
    memoryBytes: totalmem(),
    kernel: release(),
    system: /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync('/etc/os-release', 'utf8'))?.[1] ?? '',
  };
}
