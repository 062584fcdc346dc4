import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { localDestination, localPath, localSource, planCopy, renamedSource, splitArgument } from './copy-plan.ts';

const folder = mkdtempSync(join(tmpdir(), 'shoal-copy-'));
mkdirSync(join(folder, 'dir'));
writeFileSync(join(folder, 'file'), 'x');
symlinkSync('dir', join(folder, 'to-dir'));
symlinkSync('nowhere', join(folder, 'broken'));
symlinkSync('loop', join(folder, 'loop'));
afterAll(() => rmSync(folder, { recursive: true }));

const at = (name: string): string => `${folder}/${name}`;
const inside = (path: string, exists: boolean, isDirectory: boolean) => ({ path, exists, isDirectory, rename: '' });

describe('cp', () => {
  it.each([
    ['web:/etc/hosts', ['web', '/etc/hosts']],
    ['web:', ['web', '']],
    ['/a:b', ['', '/a:b']],
    ['./a:b', ['', './a:b']],
    ['plain', ['', 'plain']],
    ['-', ['', '-']],
  ])('reads the argument %s', (text, parts) => expect(splitArgument(text)).toEqual(parts));

  it('keeps what says that a path is a directory', () => {
    expect(localPath('/a/b/')).toBe('/a/b/');
    expect(localPath('/a/b/.')).toBe('/a/b/.');
    expect(localPath('/')).toBe('/');
    expect(localPath('/a//b')).toBe('/a/b');
  });

  it.each([
    // source, destination, plan
    ['file', inside('/srv', true, true), { directory: '/srv', from: 'file', to: 'file' }],
    ['file', inside('/srv/old', true, false), { directory: '/srv', from: 'file', to: 'old' }],
    ['file', inside('/srv/new', false, false), { directory: '/srv', from: 'file', to: 'new' }],
    ['dir', inside('/srv', true, true), { directory: '/srv', from: 'dir', to: 'dir' }],
    ['dir', inside('/srv/new', false, false), { directory: '/srv', from: 'dir', to: 'new' }],
    ['dir', inside('/srv/new/', false, false), { directory: '/srv', from: 'dir', to: 'new' }],
    ['dir/.', inside('/srv', true, true), { directory: '/srv', from: '.', to: '.' }],
    ['dir/.', inside('/srv/new', false, false), { directory: '/srv', from: '.', to: 'new' }],
    // A link is copied as a link, but for one that a slash makes its directory.
    ['to-dir', inside('/srv', true, true), { directory: '/srv', from: 'to-dir', to: 'to-dir' }],
    ['to-dir/', inside('/srv', true, true), { directory: '/srv', from: 'dir', to: 'to-dir' }],
  ])('of %s to %j', (source, destination, plan) => {
    expect(planCopy(localSource(at(source), false), destination)).toEqual(plan);
  });

  it('follows the source link when asked to, and keeps its name', () => {
    const side = localSource(at('to-dir'), true);
    expect(side).toEqual({ path: at('dir'), exists: true, isDirectory: true, rename: 'to-dir' });
    expect(planCopy(side, inside('/srv', true, true))).toEqual({ directory: '/srv', from: 'dir', to: 'to-dir' });
    expect(renamedSource('/a/l', '/a/t')).toEqual({ path: '/a/t', rename: 'l' });
  });

  it('finds destinations behind links, also missing ones', () => {
    expect(localDestination(at('to-dir'))).toEqual(inside(at('dir'), true, true));
    expect(localDestination(at('broken'))).toEqual(inside(at('nowhere'), false, false));
    expect(() => localDestination(at('loop'))).toThrow('too many symlinks');
    expect(() => localDestination(at('none/x'))).toThrow(`stat ${at('none')}: no such file or directory`);
  });

  it('refuses what does not fit', () => {
    expect(() => planCopy(localSource(at('dir'), false), inside('/f', true, false))).toThrow('cannot copy directory');
    expect(() => planCopy(localSource(at('file'), false), inside('/x/', false, false))).toThrow('no such directory');
    expect(() => localSource(at('absent'), false)).toThrow(`lstat ${at('absent')}: no such file or directory`);
  });
});
