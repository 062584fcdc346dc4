import { existsSync, mkdirSync, realpathSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runChecked, ShoalError, writeFileDurably, type Spawner } from '../base/index.ts';

const UNIT_FILE = '/etc/systemd/system/shoal.service';
const LINK = '/usr/local/bin/shoal';

/** The systemd unit: containers outlive the daemon, so only the daemon's own process is ended. */
export function systemdUnit(program: string): string {
  return `[Unit]
Description=Shoal container engine and cluster manager
Documentation=https://docs.docker.com/engine/swarm/
After=network-online.target nss-lookup.target firewalld.service time-set.target
Wants=network-online.target

[Service]
Type=exec
ExecStart=${program} daemon
ExecReload=/bin/kill -s HUP $MAINPID
KillMode=process
Delegate=yes
Restart=always
RestartSec=2
TimeoutStartSec=0
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
`;
}

/** `bin/shoal` of this installation. */
export function programPath(): string {
  let dir = dirname(realpathSync(fileURLToPath(import.meta.url)));
  while (!existsSync(join(dir, 'bin', 'shoal'))) {
    const up = dirname(dir);
    if (up === dir) throw new ShoalError('NotFound', 'bin/shoal was not found beside this program');
    dir = up;
  }
  return join(dir, 'bin', 'shoal');
}

/**
 * `shoal install`: writes the systemd unit, links the program into the PATH, and starts the service where systemd runs.
 * @returns lines for the user
 */
export async function install(spawner: Spawner): Promise<string[]> {
  if (process.getuid?.() !== 0) throw new ShoalError('PermissionDenied', 'shoal install needs root');
  const program = programPath();
  const lines: string[] = [];
  mkdirSync(dirname(UNIT_FILE), { recursive: true });
  writeFileDurably(UNIT_FILE, systemdUnit(program), 0o644);
  lines.push(`wrote ${UNIT_FILE}`);
  if (!existsSync(LINK)) {
    await runChecked(spawner, { file: 'ln', args: ['-s', program, LINK] });
    lines.push(`linked ${LINK}`);
  }
  if (!existsSync('/run/systemd/system')) {
    lines.push(`systemd does not run here: start the daemon by hand with ${program} daemon`);
    return lines;
  }
  await runChecked(spawner, { file: 'systemctl', args: ['daemon-reload'] });
  await runChecked(spawner, { file: 'systemctl', args: ['enable', '--now', 'shoal.service'] });
  lines.push('started shoal.service; look at it with: systemctl status shoal');
  return lines;
}
