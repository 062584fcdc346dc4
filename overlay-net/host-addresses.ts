import { networkInterfaces } from 'node:os';

/** Addresses that an interface of this host has now, link-local ones left out; empty when there is none of the name. */
export function linkAddresses(name: string): string[] {
  return (networkInterfaces()[name] ?? [])
    .map(({ address }) => address)
    .filter((address) => !/^fe[89ab]/i.test(address) && !address.includes('%'))
    .sort();
}
