import { errorMessage, type Logger, type Spawner } from '../base/index.ts';
import type { Kernel } from './kernel/index.ts';

/** A base chain that sees forwarded packets, as `nft list chains` tells it. */
interface ForwardChain {
  /** Family, table and chain. */
  name: string;
  text: string;
}

/** Base chains of others that filter forwarded packets: iptables' `filter FORWARD` of both families, and any other. */
export function forwardChains(listing: string): string[] {
  const found: string[] = [];
  let table = '';
  let chain = '';
  for (const line of listing.split('\n')) {
    const [word, first = '', second = ''] = line.trim().split(/\s+/);
    if (word === 'table')
      table = /^(?:ip|ip6|inet)$/.test(first) && !second.startsWith('shoal') ? `${first} ${second}` : '';
    if (word === 'chain') chain = first;
    if (table !== '' && /\btype filter hook forward\b/.test(line)) found.push(`${table} ${chain}`);
  }
  return found;
}

/** Whether a chain lets nothing pass that no rule names: by its policy, or by a last rule for all packets. */
export function dropsByDefault(text: string): boolean {
  if (/hook forward [^\n]*policy drop;/.test(text)) return true;
  const rules = text.split('\n').map((line) => line.trim());
  const last = rules.filter((line) => line !== '' && line !== '}').at(-1) ?? '';
  return /^(?:counter (?:packets \d+ bytes \d+ )?)?(?:drop|reject(?: with \S+(?: type)? \S+)?)$/.test(last);
}

async function chainsThatDrop(kernel: Kernel): Promise<ForwardChain[]> {
  const found: ForwardChain[] = [];
  for (const name of forwardChains(await kernel.nft(null, 'list chains\n'))) {
    const text = await kernel.nft(null, `list chain ${name}\n`).catch(() => '');
    if (dropsByDefault(text)) found.push({ name, text });
  }
  return found;
}

/**
 * Lets our links pass a host whose own forward chains drop by default (iptables, or a firewall's `inet filter`): a
 * verdict of our table cannot overrule another's drop, so plain accept rules are put first there. What may not pass was
 * dropped by our own chain, which comes earlier.
 * @param patterns link names; a last `*` stands for any rest.
 */
export async function passForwardPolicy(kernel: Kernel, patterns: readonly string[], log: Logger): Promise<void> {
  const wanted = patterns.flatMap((name) => [`iifname "${name}"`, `oifname "${name}"`]);
  for (const { name, text } of await chainsThatDrop(kernel)) {
    const missing = wanted.filter((match) => !text.includes(`${match} accept`));
    if (missing.length === 0) continue;
    try {
      await kernel.nft(null, missing.map((match) => `insert rule ${name} ${match} accept\n`).join(''));
      log.info("accept rules were put into the host's forward chain, which drops by default", {
        chain: name,
        links: patterns.join(' '),
      });
    } catch (error) {
      log.warn("cannot let our links pass the host's forward chain", { chain: name, error: errorMessage(error) });
    }
  }
}

/** Takes the accept rules of `passForwardPolicy` away again. */
export async function leaveForwardPolicy(spawner: Spawner, kernel: Kernel, patterns: readonly string[]): Promise<void> {
  for (const name of forwardChains(await kernel.nft(null, 'list chains\n'))) {
    // Only the program prints handles.
    const result = await spawner.run({ file: 'nft', args: ['-a', 'list', 'chain', ...name.split(' ')] });
    const ours = result.stdout
      .toString('utf8')
      .split('\n')
      .filter((line) => patterns.some((pattern) => line.includes(`ifname "${pattern}" accept`)))
      .map((line) => /# handle (\d+)/.exec(line)?.[1])
      .filter((handle) => handle !== undefined);
    if (ours.length === 0) continue;
    await kernel.nft(null, ours.map((handle) => `delete rule ${name} handle ${handle}\n`).join(''));
  }
}
