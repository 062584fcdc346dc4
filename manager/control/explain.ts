import { ExplainResponse, timestampFromMs, type Timestamp } from '../../proto/index.ts';
import { why } from '../why/index.ts';
import type { Control, ControlOptions } from './types.ts';

function timestamp(ms: number | undefined): Timestamp | null {
  return ms === undefined || ms === 0 ? null : timestampFromMs(ms);
}

/** Why things are as they are. */
export function explainMethods({ store, clock }: ControlOptions): Pick<Control, 'Explain'> {
  return {
    Explain: async ({ kind, reference }) => {
      const { causes, nearest, ...answer } = why(store.view(), clock.now(), kind, reference);
      return ExplainResponse.create({
        ...answer,
        nearest: nearest ?? '',
        causes: causes.map(({ what, sinceMs, atMs }) => ({ what, since: timestamp(sinceMs), at: timestamp(atMs) })),
      });
    },
  };
}
