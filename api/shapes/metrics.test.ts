import { expect, test } from 'vitest';
import { metricsText } from './metrics.ts';

test('metrics are text that Prometheus reads, whatever stands in labels', () => {
  const text = metricsText([
    { name: 'a_total', type: 'counter', help: 'Things, "counted"\nso far.', samples: [{ value: 3 }] },
    {
      ...{ name: 'b_bytes', type: 'gauge', help: 'Size.' },
      samples: [
        { labels: { state: 'running', name: 'a"b\\c\nd' }, value: 0.5 },
        { labels: { state: 'paused' }, value: 0 },
      ],
    },
    { name: 'c', type: 'gauge', help: 'None yet.', samples: [] },
  ]);
  expect(text).toBe(
    [
      '# HELP a_total Things, "counted"\\nso far.',
      '# TYPE a_total counter',
      'a_total 3',
      '# HELP b_bytes Size.',
      '# TYPE b_bytes gauge',
      'b_bytes{state="running",name="a\\"b\\\\c\\nd"} 0.5',
      'b_bytes{state="paused"} 0',
      '# HELP c None yet.',
      '# TYPE c gauge',
      '',
    ].join('\n'),
  );
});
