import { NetworkFault, type NetworkFault_Kind } from '../../proto/index.ts';

/** Faults that one host tells of one network; more are counted. */
export const FAULTS_MAX = 64;
const WORDS_MAX = 400;

/** What was found wrong, bounded. */
export class Findings {
  readonly faults: NetworkFault[] = [];
  leftOut = 0;

  add(kind: NetworkFault_Kind, peerNodeId: string, words: string): void {
    if (this.faults.length >= FAULTS_MAX) this.leftOut++;
    else this.faults.push(NetworkFault.create({ kind, peer_node_id: peerNodeId, words: words.slice(0, WORDS_MAX) }));
  }
}
