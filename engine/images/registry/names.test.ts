import type { LookupAddress } from 'node:dns';
import { expect, test } from 'vitest';
import { VirtualClock } from '../../../base/index.ts';
import { LOOKUP_TIMEOUT_MS, RegistryNames, SILENCE_REMEMBERED_MS } from './names.ts';

const FOUND: LookupAddress[] = [
  { address: '::7', family: 6 },
  { address: '192.0.2.7', family: 4 },
];

type Done = (error: NodeJS.ErrnoException | null, found: LookupAddress[]) => void;

function silentResolver(): { clock: VirtualClock; names: RegistryNames; questions: Done[] } {
  const clock = new VirtualClock();
  const questions: Done[] = [];
  return { clock, questions, names: new RegistryNames(clock, (_name, done) => questions.push(done)) };
}

test('a silent resolver is waited for once, and asked again after a while', async () => {
  const { clock, names, questions } = silentResolver();
  const both = [names.addresses('registry.example'), names.addresses('registry.example')].map((work) =>
    expect(work).rejects.toMatchObject({ code: 'ELOOKUPTIMEOUT' }),
  );
  clock.advance(LOOKUP_TIMEOUT_MS);
  await Promise.all(both);
  expect(questions).toHaveLength(1);
  // At once, with no thread taken.
  await expect(names.addresses('registry.example')).rejects.toMatchObject({ code: 'ELOOKUPTIMEOUT' });
  questions[0]?.(Object.assign(new Error('EAI_AGAIN'), { code: 'EAI_AGAIN' }), []);
  await expect(names.addresses('registry.example')).rejects.toBeDefined();
  expect(questions).toHaveLength(1);
  clock.advance(SILENCE_REMEMBERED_MS);
  const again = names.addresses('registry.example');
  expect(questions).toHaveLength(2);
  questions[1]?.(null, FOUND);
  expect(await again).toEqual(FOUND);
});

test('an answer that comes late is taken up; "no such name" is not remembered; other names do not wait', async () => {
  const { clock, names, questions } = silentResolver();
  const late = expect(names.addresses('slow.example')).rejects.toMatchObject({ code: 'ELOOKUPTIMEOUT' });
  clock.advance(LOOKUP_TIMEOUT_MS);
  await late;
  const other = names.addresses('other.example');
  questions[1]?.(Object.assign(new Error('no'), { code: 'ENOTFOUND' }), []);
  await expect(other).rejects.toMatchObject({ code: 'ENOTFOUND' });
  questions[0]?.(null, FOUND);
  await Promise.resolve();
  const known = names.addresses('slow.example');
  questions[2]?.(null, FOUND);
  expect(await known).toEqual(FOUND);
  const asked = names.addresses('other.example');
  questions[3]?.(null, FOUND);
  expect(await asked).toEqual(FOUND);
});

test('sockets get the form and family that they ask for', async () => {
  const names = new RegistryNames(new VirtualClock(), (_name, done) => done(null, FOUND));
  const ask = (options: { all?: boolean; family?: number }): Promise<unknown[]> =>
    new Promise((resolve) => names.lookup('registry.example', options, (...answer) => resolve(answer)));
  expect(await ask({ all: true })).toEqual([null, FOUND]);
  expect(await ask({ family: 4 })).toEqual([null, '192.0.2.7', 4]);
  expect(await ask({})).toEqual([null, '::7', 6]);
});
