import type { Logger, Spawner } from '../base/index.ts';
import type { Kernel } from './kernel/index.ts';

const CHAIN = 'ip filter FORWARD';

/**
 * Lets our links pass a host whose own forward chain (iptables' `filter FORWARD`) drops by default: a verdict of our
 * table cannot overrule another's drop, so plain accept rules are put first there. What may not pass was dropped by
 * our own chain, which comes earlier.
 * @param patterns link names; a last `*` stands for any rest.
 */
export async function passForwardPolicy(kernel: Kernel, patterns: readonly string[], log: Logger): Promise<void> {
  let chain: string;
  try {
    chain = await kernel.nft(null, `list chain ${CHAIN}\n`);
  } catch {
    // The host has no such chain, so nothing to pass.
    return;
  }
  if (!chain.includes('policy drop')) return;
  const wanted = patterns.flatMap((name) => [`iifname "${name}"`, `oifname "${name}"`]);
  const missing = wanted.filter((match) => !chain.includes(match));
  if (missing.length === 0) return;
  await kernel.nft(null, missing.map((match) => `insert rule ${CHAIN} ${match} accept\n`).join(''));
  log.info("accept rules were put into the host's forward chain, whose policy is drop", { links: patterns.join(' ') });
}

/** Takes the accept rules of `passForwardPolicy` away again. */
export async function leaveForwardPolicy(spawner: Spawner, kernel: Kernel, patterns: readonly string[]): Promise<void> {
  // Only the program prints handles.
  const result = await spawner.run({ file: 'nft', args: ['-a', 'list', 'chain', ...CHAIN.split(' ')] });
  const ours = result.stdout
    .toString('utf8')
    .split('\n')
    .filter((line) => patterns.some((name) => line.includes(`ifname "${name}" accept`)))
    .map((line) => /# handle (\d+)/.exec(line)?.[1])
    .filter((handle) => handle !== undefined);
  if (ours.length === 0) return;
  await kernel.nft(null, ours.map((handle) => `delete rule ${CHAIN} handle ${handle}\n`).join(''));
}
