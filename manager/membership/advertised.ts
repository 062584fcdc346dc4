import { completeAddress, splitAddress } from './service.ts';

/** An advertised address with a port: its own, or the one listened on. */
export function withPort(advertiseAddr: string, port: number): string {
  const bare = /^[^:]*$|^\[[^\]]*\]$/.test(advertiseAddr);
  if (bare) return `${advertiseAddr}:${port}`;
  if ((advertiseAddr.match(/:/g)?.length ?? 0) > 1 && !advertiseAddr.startsWith('['))
    return `[${advertiseAddr}]:${port}`;
  const addr = advertiseAddr.replace(/:0$/, `:${port}`);
  splitAddress(addr);
  return completeAddress(addr, addr);
}
