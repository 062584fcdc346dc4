import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { directSpawner, failedPrecondition } from '../../base/index.ts';
import { findDockerd, Lab, leftovers, makeMountPoints, removeMountPoints } from '../../lab/index.ts';
import { startDocker } from '../docker-side.ts';
import { writeImage } from '../image.ts';
import { placeImage } from '../measure.ts';
import { startShoal } from '../shoal-side.ts';
import { prepareByHand } from './by-hand.ts';
import { prepareOverlay, prepareShoal, type OverlayStage } from './stage.ts';
import { throughput, type ThroughputResult } from './throughput.ts';

const SECONDS = 1;
const IPVS = '/proc/net/ip_vs';

/** Docker's side as it was measured, and what of it was not. */
export interface PeerFacts {
  /** Absent: Docker was not measured at all. */
  version?: string;
  configuration?: readonly string[];
  /** In words for the reader: what was left out, and why. */
  notMeasured?: string;
}

export interface ThroughputFigures extends ThroughputResult {
  docker: PeerFacts;
}

export interface ThroughputOptions {
  runs: number;
  /** Measure Shoal only, even where dockerd is installed. */
  shoalOnly: boolean;
  signal: AbortSignal;
}

/** Measures all ways on three sets of hosts: Shoal's, Docker's, and some without any daemon. */
export async function throughputPart(options: ThroughputOptions): Promise<ThroughputFigures> {
  if ((await directSpawner.run({ file: 'sh', args: ['-c', 'command -v iperf3'] })).code !== 0) {
    throw failedPrecondition(
      'iperf3 is missing, and nothing of "throughput" can be measured: install the package iperf3',
    );
  }
  const { runs, shoalOnly, signal } = options;
  const dockerd = shoalOnly ? undefined : findDockerd();
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  const labOf = (side: string): Lab => new Lab(`bench-net-${side}-${process.pid}`);
  const labs = { shoal: labOf('shoal'), docker: labOf('docker'), hand: labOf('hand') };
  const made = dockerd === undefined ? [] : makeMountPoints();
  try {
    const archive = join(scratch, 'image.tar');
    await writeImage(archive);
    const hand = await prepareByHand(labs.hand);
    const side = await startShoal(labs.shoal, 1, 2);
    const shoal = await prepareShoal(side, await placeImage(side, archive), signal);
    const peer = await dockerStage(labs.docker, dockerd, archive, signal);
    const measured = await throughput({ shoal, hand, docker: peer.stage }, { runs, seconds: SECONDS, signal });
    return { ...measured, docker: peer.facts };
  } finally {
    for (const lab of Object.values(labs)) {
      await lab.down();
      const left = leftovers(lab.names);
      if (left.length > 0) console.error(`left behind by ${lab.names.name}: ${left.join(', ')}`);
    }
    removeMountPoints(made);
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function dockerStage(
  lab: Lab,
  dockerd: string | undefined,
  archive: string,
  signal: AbortSignal,
): Promise<{ stage: OverlayStage | undefined; facts: PeerFacts }> {
  if (dockerd === undefined) {
    const notMeasured =
      'Docker was not measured: dockerd is not installed (Debian: docker.io), or --shoal-only was given.';
    return { stage: undefined, facts: { notMeasured } };
  }
  const side = await startDocker(lab, dockerd, 1, 2);
  const stage = await prepareOverlay(side, await placeImage(side, archive), signal);
  const { version, configuration } = side;
  const facts = { version, configuration: [...configuration, 'services with endpoint mode dnsrr'] };
  // dockerd has tried to load the module when it made the swarm's networks.
  const notMeasured =
    "Docker's virtual addresses and ingress were not measured: " +
    (existsSync(IPVS) ? 'this benchmark compares addresses only.' : `they need IPVS, and this kernel has no ${IPVS}.`);
  return { stage, facts: { ...facts, notMeasured } };
}
