export const FAMILIES = ['IPv4', 'IPv6'] as const;
export const PROTOCOLS = ['TCP', 'UDP'] as const;
export type Family = (typeof FAMILIES)[number];
export type Protocol = (typeof PROTOCOLS)[number];

/** Time for one question, s. A question that must not be answered takes all of it. */
const ASK_S = 2;

/** A shell command that asks a server who it is, and prints the first line of its answer. */
export function question(protocol: Protocol, family: Family, address: string, port: number): string {
  const where = family === 'IPv6' ? `[${address}]` : address;
  const limit = protocol === 'TCP' ? `,connect-timeout=${ASK_S}` : '';
  const target = `${protocol}${family === 'IPv6' ? 6 : 4}:${where}:${port}${limit}`;
  return `echo x | timeout ${ASK_S + 1} socat -t${ASK_S} -T${ASK_S} - ${target} 2>/dev/null | head -1`;
}

/** `SERVER CLIENT-ADDRESS` in one form, whatever form the socket had it in; empty when there was no answer. */
export function readable(answer: string): string {
  const [server = '', address = ''] = answer.trim().split(' ');
  return server === '' ? '' : `${server} ${plain(address)}`;
}

/** An address as people write it: without brackets, mapped ones as IPv4, others shortened by the one rule of URLs. */
export function plain(address: string): string {
  const bare = address.replace(/^\[|\]$/g, '');
  if (!bare.includes(':')) return bare;
  const short = new URL(`http://[${bare}]/`).hostname.slice(1, -1);
  const mapped = /^::ffff:([0-9a-f]+):([0-9a-f]+)$/.exec(short);
  if (mapped === null) return short;
  const [high, low] = [parseInt(mapped[1] ?? '', 16), parseInt(mapped[2] ?? '', 16)];
  return [high >> 8, high & 255, low >> 8, low & 255].join('.');
}

/** Does a job for each item, at most `size` at the same time. @throws the first failure of a job */
export async function inPool<T>(items: readonly T[], size: number, job: (item: T) => Promise<void>): Promise<void> {
  let next = 0;
  const work = async (): Promise<void> => {
    for (let item = items[next++]; item !== undefined; item = items[next++]) await job(item);
  };
  await Promise.all(Array.from({ length: size }, work));
}
