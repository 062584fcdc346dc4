import { errorMessage } from '../base/index.ts';
import type { Context } from './context.ts';
import { reportErrors } from './task-table.ts';

/** Does something to each name, goes on after errors, and gives the exit code. */
export async function removeEach(
  context: Context,
  names: readonly string[],
  run: (name: string) => Promise<void>,
): Promise<number> {
  const errors: string[] = [];
  for (const name of names) {
    try {
      await run(name);
    } catch (error) {
      errors.push(errorMessage(error));
    }
  }
  return reportErrors(context, errors);
}

/** Asks on the terminal before something is removed; a client without terminal must say --force. */
export async function confirmed(context: Context, question: string): Promise<boolean> {
  context.out.write(`${question} [y/N] `);
  for await (const chunk of context.input as AsyncIterable<Buffer>) {
    const yes = chunk.toString('utf8').trim().toLowerCase() === 'y';
    context.input.destroy();
    return yes;
  }
  context.out.write('\n');
  return false;
}
