import { describe, expect, it } from 'vitest';
import { checkText, traceTarget, traceText, type CheckAnswer } from './network-check.ts';

const pair = { Node: 'b', Asked: 2, Answered: 2, RttUs: 310, Mtu: 1450, MtuRight: true };
const node = {
  Hostname: 'a',
  Error: '',
  Tasks: 1,
  TasksLeftOut: 0,
  Names: { Asked: 2, Right: 2 },
  Entries: 9,
  Pairs: [pair, { ...pair, Node: '', Mtu: 0, RttUs: 0 }],
  Faults: [],
  FaultsLeftOut: 0,
};
const answer = (change: Partial<typeof node> | object): CheckAnswer => ({
  OK: true,
  Networks: [{ Name: 'app', OK: true, Nodes: [{ ...node, ...change }] }],
});

describe('shoal network check', () => {
  it('shows a row for each host, one for each pair, and the verdict', () => {
    expect(checkText(answer({})).split('\n')).toEqual([
      'NETWORK   FROM      TO          NAMES     REACHED   RTT       MTU       PATH',
      'app       a         (all)       2/2       -         -         -         ok',
      'app       a         b           -         2/2       0.31 ms   1450      -',
      'app       a         (virtual)   -         2/2       -         -         -',
      '',
      'OK: 1 network checked, nothing is broken',
      '',
    ]);
  });

  it('names what is broken and where', () => {
    const Faults = [{ Kind: 'path', Peer: 'b', What: 'fdb entry 02:42:0a:00:01:05 is missing' }];
    const text = checkText(answer({ Faults, FaultsLeftOut: 3, TasksLeftOut: 1 }));
    expect(text).toContain('1 BROKEN');
    expect(text.split('\n').slice(-6)).toEqual([
      '',
      'BROKEN app, on a towards b: path: fdb entry 02:42:0a:00:01:05 is missing',
      '… and 3 more in app, on a',
      '1 task left out: each host tries from its first tasks only',
      'BROKEN: 4 faults in 1 network',
      '',
    ]);
  });

  it('says which host gave no report', () => {
    const text = checkText(answer({ Error: 'the host is down' }));
    expect(text).toContain('no report');
    expect(text).toContain('BROKEN app, on a: the host is down\nBROKEN: 1 fault in 1 network');
  });

  it('says when there is nothing to check', () => {
    expect(checkText({ OK: true, Networks: [] })).toContain('nothing to check');
    expect(checkText({ OK: true, Networks: [{ Name: 'app', OK: true, Nodes: [] }] })).toContain(
      'app: no running tasks',
    );
  });
});

describe('shoal network trace', () => {
  it('takes a task or service with a port', () => {
    expect(traceTarget('web.2:80')).toEqual({ To: 'web.2', Port: 80, Protocol: 'tcp' });
    expect(traceTarget('dns:53/udp')).toEqual({ To: 'dns', Port: 53, Protocol: 'udp' });
    for (const wrong of ['web', ':80', 'web:x', 'web:80/sctp']) expect(() => traceTarget(wrong)).toThrow('TASK:PORT');
  });

  it('shows the steps and the first that is broken', () => {
    const step = { Node: 'a', Name: 'resolution', OK: true, What: '127.0.0.11: web is 10.0.1.2' };
    expect(traceText({ OK: true, Steps: [step] })).toContain('OK: the whole way is open');
    const broken = { ...step, Name: 'fdb', OK: false, What: 'leads to nothing' };
    expect(traceText({ OK: false, Steps: [step, broken] })).toMatch(
      /BROKEN +a +fdb[^]*\nBROKEN: fdb on a: leads to nothing\n$/,
    );
  });
});
