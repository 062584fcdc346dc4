import { ExplainResponse, timestampFromMs } from '../../proto/index.ts';
import { why } from '../why/index.ts';
import type { Control, ControlOptions } from './types.ts';

/** Why things are as they are. */
export function explainMethods({ store, clock }: ControlOptions): Pick<Control, 'Explain'> {
  return {
    Explain: async ({ kind, reference }) => {
      const { causes, nearest, ...answer } = why(store.view(), clock.now(), kind, reference);
      return ExplainResponse.create({
        ...answer,
        nearest: nearest ?? '',
        causes: causes.map(({ what, sinceMs }) => ({
          what,
          since: sinceMs === undefined || sinceMs === 0 ? null : timestampFromMs(sinceMs),
        })),
      });
    },
  };
}
