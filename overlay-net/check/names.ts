/** Whether the resolvers of this host's containers answer as the tables say. */
import { errorMessage } from '../../base/index.ts';
import { NetworkFault_Kind, type NetworkTable } from '../../proto/index.ts';
import { bareIp } from '../ip4.ts';
import { askResolver, type ResolverAnswer } from './ask-resolver.ts';
import type { Findings } from './findings.ts';
import type { CheckOptions, LocalTask } from './view.ts';

/** Services that each container's resolver is asked for. */
const NAMES_MAX = 8;
const ANSWER_TIMEOUT_MS = 2000;
/** What is answered wrongly is asked again after this time: a task may just have changed, ms. */
const SECOND_LOOK_MS = 1000;

/** What a service's name may be answered with on one network; undefined when the network does not know it. */
function judge(table: NetworkTable, name: string, addresses: readonly string[]): boolean | undefined {
  const service = table.services.find((one) => one.name === name);
  if (service === undefined) return undefined;
  const own = table.endpoints.filter((one) => one.service_id === service.service_id);
  if (service.vip !== '') return addresses.length === 1 && addresses[0] === bareIp(service.vip);
  const known = new Set(own.map((one) => bareIp(one.address)));
  const serving = own.some((one) => one.serving);
  return addresses.every((one) => known.has(one)) && addresses.length > 0 === serving;
}

function wordsOf(answer: ResolverAnswer): string {
  switch (answer.kind) {
    case 'addresses':
      return answer.addresses.length === 0 ? 'no address' : answer.addresses.slice(0, 8).join(', ');
    case 'code':
      return answer.rcode === 3 ? 'no such name' : `DNS error ${answer.rcode}`;
    case 'silent':
      return answer.words;
  }
}

/** One question, judged by all networks of the container that know the name. @returns undefined when it is right */
async function wrongAnswer(task: LocalTask, name: string, options: CheckOptions): Promise<string | undefined> {
  const { clock, random } = options;
  const ask = { clock, random, timeoutMs: ANSWER_TIMEOUT_MS };
  const answer = await askResolver(task.record.result.namespacePath, name, ask);
  if (answer.kind !== 'addresses') return wordsOf(answer);
  const verdicts = task.record.legs.map((leg) => {
    const table = options.overlays.get(leg.networkId)?.table;
    return table === undefined ? undefined : judge(table, name, answer.addresses);
  });
  return verdicts.includes(true) || !verdicts.includes(false) ? undefined : wordsOf(answer);
}

export interface NamesAsked {
  asked: number;
  right: number;
}

/** Asks each container's resolver for services of the network. The containers ask side by side. */
export async function checkNames(
  table: () => NetworkTable,
  tasks: readonly LocalTask[],
  findings: Findings,
  options: CheckOptions,
): Promise<NamesAsked> {
  const counted: NamesAsked = { asked: 0, right: 0 };
  const one = async (task: LocalTask, name: string): Promise<void> => {
    counted.asked++;
    try {
      let wrong = await wrongAnswer(task, name, options);
      if (wrong !== undefined) {
        await options.clock.sleep(SECOND_LOOK_MS);
        wrong = await wrongAnswer(task, name, options);
      }
      if (wrong === undefined) counted.right++;
      else findings.add(NetworkFault_Kind.RESOLUTION, '', `${task.name}: 127.0.0.11 answers "${name}" with: ${wrong}`);
    } catch (error) {
      const words = `${task.name}: its resolver cannot be asked: ${errorMessage(error)}`;
      findings.add(NetworkFault_Kind.RESOLUTION, '', words);
    }
  };
  const names = table()
    .services.map((service) => service.name)
    .filter((name) => name !== '');
  const jobs = tasks.flatMap((task, index) => {
    // Each container begins elsewhere, so that together they ask for more than the bound.
    const turned = [...names.slice(index % Math.max(1, names.length)), ...names].slice(0, names.length);
    return turned.slice(0, NAMES_MAX).map((name) => one(task, name));
  });
  await Promise.all(jobs);
  return counted;
}
