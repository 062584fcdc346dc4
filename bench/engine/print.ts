import { unreachable } from '../../base/index.ts';
import type { Crowd } from './parts.ts';

/** What both sides gave in each run. */
export interface Ends {
  shoal: number[];
  shoalMedian: number;
  docker?: number[];
  dockerMedian?: number;
}

export type Result =
  | { part: 'run'; clientMs: Ends }
  | { part: 'burst'; containers: number; clients: number; perSecond: Ends }
  | { part: 'memory'; idleKb: number; shoal: Crowd; docker?: Crowd }
  | { part: 'many'; shoal: Crowd }
  | { part: 'logs'; log: Ends; file: Ends }
  | { part: 'chatty'; containers: number; turnsMs: number[] };

/** Targets of the engine. */
const RUN_RATIO = 1 / 3;
const BURST_RATIO = 4;
const BURST_PER_SECOND = 30;
const IDLE_MB = 90;
const EACH_MB = 3;
const LOG_RATIO = 0.5;
const TURN_MS = 20;

const verdict = (holds: boolean): string => (holds ? 'holds' : 'MISSED');
const mb = (kb: number): string => `${(kb / 1024).toFixed(1)} MB`;
const s = (seconds: number): string => `${seconds.toFixed(1)} s`;

/** Prints the figures of a part with the targets beside them. */
export function printPart(result: Result): void {
  switch (result.part) {
    case 'run':
      printRun(result.clientMs);
      break;
    case 'burst':
      printBurst(result);
      break;
    case 'memory': {
      const { idleKb, shoal, docker } = result;
      const idle = idleKb / 1024;
      console.log(`daemon, idle: ${idle.toFixed(1)} MB resident (target: ${IDLE_MB}, ${verdict(idle < IDLE_MB)});`);
      console.log(`  after its first containers ${mb(shoal.before.daemons)}`);
      printCrowd('Shoal', shoal);
      if (docker !== undefined) printCrowd('Docker', docker);
      break;
    }
    case 'many':
      printCrowd('Shoal', result.shoal);
      break;
    case 'logs':
      printLogs(result.log, result.file);
      break;
    case 'chatty': {
      const longest = Math.max(...result.turnsMs);
      const words = `${result.containers} containers that write 100 lines a second each, ${result.turnsMs.length} s`;
      console.log(`${words}: longest turn of the event loop ${longest.toFixed(1)} ms`);
      console.log(`  (target: ${TURN_MS} ms, ${verdict(longest < TURN_MS)})`);
      break;
    }
    default:
      unreachable(result);
  }
}

function printRun({ shoalMedian, dockerMedian }: Ends): void {
  console.log(`docker run --rm IMAGE true, client to exit, median: Shoal ${shoalMedian.toFixed(0)} ms`);
  if (dockerMedian === undefined) return;
  const ratio = shoalMedian / dockerMedian;
  const share = `${(ratio * 100).toFixed(0)} % of Docker's`;
  console.log(
    `  Docker ${dockerMedian.toFixed(0)} ms: ${share} (target: at most 33 %, ${verdict(ratio <= RUN_RATIO)})`,
  );
}

function printBurst({ containers, clients, perSecond }: Extract<Result, { part: 'burst' }>): void {
  const { shoalMedian, dockerMedian } = perSecond;
  const holds = verdict(shoalMedian >= BURST_PER_SECOND);
  console.log(`${containers} detached containers by ${clients} clients, median: Shoal ${shoalMedian.toFixed(1)}/s`);
  console.log(`  (target: ${BURST_PER_SECOND}/s, ${holds})`);
  if (dockerMedian === undefined) return;
  const ratio = shoalMedian / dockerMedian;
  const words = `Docker ${dockerMedian.toFixed(1)}/s: ${ratio.toFixed(1)} times`;
  console.log(`  ${words} (target: ${BURST_RATIO}, ${verdict(ratio >= BURST_RATIO)})`);
}

function printCrowd(name: string, crowd: Crowd): void {
  const each = crowd.engineKbEach / 1024;
  console.log(`${name}, ${crowd.containers} containers: started in ${s(crowd.startSeconds)}, all listed in`);
  console.log(
    `  ${crowd.listMs.toFixed(0)} ms, removed in ${s(crowd.removeSeconds)}; daemon ${mb(crowd.with.daemons)},`,
  );
  console.log(
    `  monitors ${mb(crowd.with.monitors)}, their own processes ${mb(crowd.with.containers)}; the engine takes`,
  );
  console.log(`  ${each.toFixed(2)} MB with each (target: ${EACH_MB}, ${verdict(each <= EACH_MB)})`);
}

function printLogs(log: Ends, file: Ends): void {
  const ratio = log.shoalMedian / file.shoalMedian;
  const words = `100 MB by one container: log ${log.shoalMedian.toFixed(0)} MB/s, file ${file.shoalMedian.toFixed(0)} MB/s`;
  console.log(`${words}: ${(ratio * 100).toFixed(0)} % (target: 50 %, ${verdict(ratio >= LOG_RATIO)})`);
  if (log.dockerMedian === undefined || file.dockerMedian === undefined) return;
  console.log(`  Docker: log ${log.dockerMedian.toFixed(0)} MB/s, file ${file.dockerMedian.toFixed(0)} MB/s`);
}
