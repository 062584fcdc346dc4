import { expect, test } from 'vitest';
import { applyChanges } from './changes.ts';

test('every instruction', () => {
  const config = applyChanges({ Env: ['A=0', 'KEEP=1'] }, [
    'CMD ["sh", "-c", "x"]',
    'entrypoint run me',
    'ENV A=1 B="two words"\nENV C three words',
    'EXPOSE 80 53/udp 8000-8001',
    'WORKDIR /srv',
    'WORKDIR app',
    'USER 1000:1000',
    'LABEL a=b "c d"=e',
    'VOLUME ["/v1"]',
    'VOLUME /v2 /v3',
    'STOPSIGNAL SIGQUIT',
    'HEALTHCHECK --interval=1m30s --retries=2 CMD curl -f x',
  ]);
  expect(config).toEqual({
    Env: ['A=1', 'KEEP=1', 'B=two words', 'C=three words'],
    Cmd: ['sh', '-c', 'x'],
    Entrypoint: ['/bin/sh', '-c', 'run me'],
    ExposedPorts: { '80/tcp': {}, '53/udp': {}, '8000/tcp': {}, '8001/tcp': {} },
    WorkingDir: '/srv/app',
    User: '1000:1000',
    Labels: { a: 'b', 'c d': 'e' },
    Volumes: { '/v1': {}, '/v2': {}, '/v3': {} },
    StopSignal: 'SIGQUIT',
    Healthcheck: { Interval: 90e9, Retries: 2, Test: ['CMD-SHELL', 'curl -f x'] },
  });
});

test.each([
  ['RUN x', 'run is not a valid change command'],
  ['CMD', 'CMD requires at least one argument'],
  ['EXPOSE http', 'invalid containerPort: http'],
  ['ENV A', 'ENV must have two arguments'],
  ['LABEL a="b', 'unexpected end of statement'],
])('refuses %s', (change, words) => {
  expect(() => applyChanges({}, [change])).toThrow(words);
});
