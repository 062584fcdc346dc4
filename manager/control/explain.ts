import { ShoalError } from '../../base/index.ts';
import { ExplainResponse, timestampFromMs, type Timestamp } from '../../proto/index.ts';
import { why } from '../why/index.ts';
import type { Control, ControlOptions } from './types.ts';

function timestamp(ms: number | undefined): Timestamp | null {
  return ms === undefined || ms === 0 ? null : timestampFromMs(ms);
}

/** Why things are as they are, and what would become of them. */
export function explainMethods({ store, clock, planner }: ControlOptions): Pick<Control, 'Explain' | 'Plan'> {
  return {
    Explain: async ({ kind, reference }) => {
      const { causes, nearest, ...answer } = why(store.view(), clock.now(), kind, reference);
      return ExplainResponse.create({
        ...answer,
        nearest: nearest ?? '',
        causes: causes.map(({ what, sinceMs, atMs }) => ({ what, since: timestamp(sinceMs), at: timestamp(atMs) })),
      });
    },

    Plan: async (request) => {
      if (planner === undefined) throw new ShoalError('Unimplemented', 'plans cannot be made here');
      return await planner(request);
    },
  };
}
