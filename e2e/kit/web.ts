import { request } from 'node:http';

/** Body of an HTTP answer. @throws Error when it is not 200 or takes longer than `timeoutMs` */
export function get(url: string, timeoutMs = 2_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent: false, timeout: timeoutMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8').trim();
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`${url}: status ${response.statusCode}`));
      });
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${url}: no answer within ${timeoutMs} ms`)));
    outgoing.on('error', reject);
    outgoing.end();
  });
}

/** Different bodies that a URL gives over `count` requests, each of which must succeed. */
export async function bodies(url: string, count: number): Promise<Set<string>> {
  const seen = new Set<string>();
  for (let i = 0; i < count; i++) seen.add(await get(url));
  return seen;
}
