import { invalidArgument } from '../../base/index.ts';
import { SerialSet } from './serial-set.ts';

/** VXLAN network identifiers that swarms draw from (24 bits, RFC 7348 §5). */
export const VNI_FIRST = 4096;
export const VNI_LAST = 2 ** 24 - 1;

/** Where an overlay network's identifiers stand: comma list, one per subnet. */
export const VNI_OPTION = 'com.docker.network.driver.overlay.vxlanid_list';

export function newVniSet(): SerialSet {
  return new SerialSet(VNI_FIRST, VNI_LAST);
}

/**
 * The identifiers of an option's value.
 * @throws ShoalError InvalidArgument when one of them is none.
 */
export function parseVnis(text: string): number[] {
  if (text === '') return [];
  return text.split(',').map((part) => {
    const vni = Number(part.trim());
    if (!/^\s*\d+\s*$/.test(part) || vni < 1 || vni > VNI_LAST) {
      throw invalidArgument(`invalid VXLAN id ${part.trim()}: it must be between 1 and ${VNI_LAST}`);
    }
    return vni;
  });
}
