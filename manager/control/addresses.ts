import { BlockList, isIP } from 'node:net';

/** A subnet in CIDR form. */
export interface Subnet {
  address: string;
  length: number;
  family: 'ipv4' | 'ipv6';
}

/** Undefined when the text is no subnet in CIDR form. */
export function parseSubnet(text: string): Subnet | undefined {
  const [address = '', length = '', ...rest] = text.split('/');
  const version = isIP(address);
  if (version === 0 || rest.length > 0 || !/^\d{1,3}$/.test(length)) return undefined;
  if (Number(length) > (version === 4 ? 32 : 128)) return undefined;
  return { address, length: Number(length), family: version === 4 ? 'ipv4' : 'ipv6' };
}

/** Whether an address lies in the subnet. */
export function contains(subnet: Subnet, address: string): boolean {
  const list = new BlockList();
  list.addSubnet(subnet.address, subnet.length, subnet.family);
  const version = isIP(address);
  return version !== 0 && list.check(address, version === 4 ? 'ipv4' : 'ipv6');
}
