import { describe, expect, test } from 'vitest';
import { readServiceSettings, readWeight } from './service-settings.ts';

describe('settings as labels', () => {
  test('nothing given means the defaults', () => {
    expect(readServiceSettings({ 'com.example.team': 'blue' })).toEqual({
      canary: 0,
      canaryWaitMs: undefined,
      updateDeadlineMs: 600_000,
      drainMs: 5_000,
      rebalance: false,
      moveStopFirst: false,
      autoscale: undefined,
      cron: undefined,
      dependsOn: [],
      prefersLocal: false,
      publishAddresses: [],
    });
  });

  test('of published ports and of the share of connections', () => {
    const labels = {
      'shoal.ingress': 'local',
      'shoal.publish.ip': '8080=192.0.2.1, 53/udp=[2001:db8::1],::1,81=eth0.7',
    };
    expect(readServiceSettings(labels)).toMatchObject({
      prefersLocal: true,
      publishAddresses: [
        { port: 8080, protocol: 'tcp', address: '192.0.2.1' },
        { port: 53, protocol: 'udp', address: '2001:db8::1' },
        { port: undefined, protocol: 'tcp', address: '::1' },
        { port: 81, protocol: 'tcp', address: 'eth0.7' },
      ],
    });
    const bad: [Record<string, string>, string][] = [
      [{ 'shoal.ingress': 'near' }, "label shoal.ingress: 'near' is not one of all, local"],
      [{ 'shoal.publish.ip': 'no such' }, "label shoal.publish.ip: 'no such' is not an IP address"],
      [{ 'shoal.publish.ip': '8080' }, "'8080' is not an IP address or interface"],
      [{ 'shoal.publish.ip': '70000=::1' }, "'70000=::1' is not an IP address"],
      [{ 'shoal.publish.ip': '::1,::2' }, "'::2': there is an address for this port already"],
    ];
    for (const [given, words] of bad) expect(() => readServiceSettings(given)).toThrow(words);
    expect(readWeight({ 'shoal.weight': '7' })).toBe(7);
    expect(readWeight(undefined)).toBe(0);
    for (const weight of ['0', '101', 'x'])
      expect(() => readWeight({ 'shoal.weight': weight })).toThrow('shoal.weight');
  });

  test('everything that can be said', () => {
    const settings = readServiceSettings({
      'shoal.update.canary': '2',
      'shoal.update.canary-wait': '1m30s',
      'shoal.update.deadline': '45s',
      'shoal.rebalance': 'true',
      'shoal.move.order': 'stop-first',
      'shoal.autoscale.max': '9',
      'shoal.autoscale.cpu': '60',
      'shoal.cron': '*/5 * * * *',
      'shoal.cron.timezone': 'Europe/Berlin',
      'shoal.cron.concurrency': 'replace',
      'shoal.depends-on': 'db:healthy, cache',
    });
    expect(settings).toMatchObject({ canary: 2, canaryWaitMs: 90_000, updateDeadlineMs: 45_000, rebalance: true });
    expect(settings.moveStopFirst).toBe(true);
    expect(settings.autoscale).toMatchObject({ min: 1, max: 9, cpuPercent: 60, memoryPercent: undefined });
    expect(settings.cron).toMatchObject({ timeZone: 'Europe/Berlin', concurrency: 'replace', history: 5 });
    expect(settings.dependsOn).toEqual([
      { service: 'db', condition: 'healthy' },
      { service: 'cache', condition: 'started' },
    ]);
  });

  test.each([
    [{ 'shoal.rebalence': 'true' }, 'label shoal.rebalence is unknown'],
    [{ 'shoal.rebalance': 'yes' }, "label shoal.rebalance: 'yes' is not true or false"],
    [{ 'shoal.move.order': 'none' }, 'is not one of start-first, stop-first'],
    [{ 'shoal.update.canary-wait': '1m' }, 'needs shoal.update.canary'],
    [{ 'shoal.update.deadline': '1' }, "label shoal.update.deadline: '1' is not a duration"],
    [{ 'shoal.autoscale.cpu': '50' }, 'shoal.autoscale.max is missing'],
    [{ 'shoal.autoscale.max': '3' }, 'autoscaling needs a target'],
    [{ 'shoal.autoscale.max': '3', 'shoal.autoscale.min': '4', 'shoal.autoscale.cpu': '5' }, 'between 1 and'],
    [{ 'shoal.cron.history': '3' }, 'needs a schedule'],
    [{ 'shoal.cron': '0 0 30 2 *' }, "label shoal.cron: '0 0 30 2 *': there is no such day"],
    [{ 'shoal.cron': '@daily', 'shoal.cron.timezone': 'Mars/Olympus' }, "label shoal.cron.timezone: 'Mars/Olympus'"],
    [{ 'shoal.cron': '@daily', 'shoal.cron.concurrency': 'maybe' }, "label shoal.cron.concurrency: 'maybe'"],
    [{ 'shoal.depends-on': 'db:alive' }, "'db:alive' is not SERVICE"],
    [{ 'shoal.priority': '-1' }, "shoal.priority: '-1'"],
    [{ 'shoal.affinity': 'node.id==x' }, 'neither service.name'],
  ])('%o is refused', (labels, words) => {
    expect(() => readServiceSettings(labels as Record<string, string>)).toThrow(words);
  });
});
