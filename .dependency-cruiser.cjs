/** Import rules between rooms (docs/architecture.md). */
const may = {
  base: [],
  proto: ['base'],
  raft: ['base', 'proto'],
  scheduler: ['base', 'proto'],
  'overlay-net': ['base', 'proto'],
  identity: ['base', 'proto'],
  engine: ['base', 'overlay-net'],
  manager: ['base', 'proto', 'identity', 'raft', 'scheduler'],
  worker: ['base', 'proto', 'identity'],
  api: ['base', 'proto'],
  cli: ['base'],
  lab: ['base'],
};
const rooms = [...Object.keys(may), 'daemon'];
const roomRules = Object.entries(may).map(([room, allowed]) => ({
  name: `${room}-imports`,
  comment: `${room} may import only: ${allowed.join(', ') || 'nothing'}`,
  severity: 'error',
  from: { path: `^${room}/` },
  to: { path: `^(${rooms.filter((other) => other !== room && !allowed.includes(other)).join('|')})/` },
}));
const indexRules = rooms.map((room) => ({
  name: `${room}-by-index`,
  comment: `other rooms import ${room} by its index.ts (proto/gen by proto itself)`,
  severity: 'error',
  from: { path: `^(${rooms.filter((other) => other !== room).join('|')})/`, pathNot: '^daemon/sim/' },
  to: { path: `^${room}/`, pathNot: `^${room}/index\\.ts$` },
}));
const simRule = {
  name: 'daemon-sim',
  comment:
    'the simulation of the whole control plane takes rooms by their index.ts, what they have for it by sim/index.ts, and the tools of raft/sim',
  severity: 'error',
  from: { path: '^daemon/sim/' },
  to: {
    path: `^(${Object.keys(may).join('|')})/`,
    pathNot: '^([a-z-]+/(sim/)?index|raft/sim/(pool|mutate|runner))\\.ts$',
  },
};
module.exports = {
  forbidden: [
    ...roomRules,
    ...indexRules,
    simRule,
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true, dependencyTypesNot: ['type-only'] } },
    {
      name: 'pure-rooms',
      comment: 'a pure room does no I/O',
      severity: 'error',
      from: {
        path: '^(raft/core/|scheduler/|overlay-net/plan\\.ts|worker/task-machine\\.ts|manager/store/apply\\.ts)',
        pathNot: '\\.test\\.ts$',
      },
      to: { dependencyTypes: ['core'], pathNot: '^(node:)?assert$' },
    },
    {
      name: 'no-test-code',
      comment: 'product code never imports tests, testing helpers, e2e or bench',
      severity: 'error',
      from: { pathNot: '(\\.test\\.ts$|/testing\\.ts$|/testing/|^e2e/|^bench/|/sim/)' },
      to: { path: '(\\.test\\.ts$|/testing\\.ts$|/testing/|^e2e/|^bench/)' },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '(^node_modules|^dist)' },
    parser: 'swc',
    tsPreCompilationDeps: true,
    enhancedResolveOptions: { extensions: ['.ts', '.js', '.json'] },
  },
};
