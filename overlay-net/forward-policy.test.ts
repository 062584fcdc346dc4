import { expect, test } from 'vitest';
import { dropsByDefault, forwardChains } from './forward-policy.ts';

const LISTING = `table ip filter {
	chain INPUT {
		type filter hook input priority filter; policy drop;
	}
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
	chain DOCKER-USER {
	}
}
table ip shoal-ab12 {
	chain forward {
		type filter hook forward priority filter - 10; policy accept;
	}
}
table bridge filter {
	chain FORWARD {
		type filter hook forward priority filter; policy drop;
	}
}
table inet firewalld {
	chain filter_FORWARD {
		type filter hook forward priority filter + 10; policy accept;
	}
}
`;

test('forward chains of others are found in all families of IP', () => {
  expect(forwardChains(LISTING)).toEqual(['ip filter FORWARD', 'inet firewalld filter_FORWARD']);
});

test('a chain drops by default by its policy or by a last rule for all packets', () => {
  const chain = (policy: string, ...rules: string[]): string =>
    [
      'table inet t {',
      'chain c {',
      `type filter hook forward priority filter; policy ${policy};`,
      ...rules,
      '}',
      '}',
    ].join('\n\t\t');
  expect(dropsByDefault(chain('drop', 'accept'))).toBe(true);
  expect(dropsByDefault(chain('accept', 'ct state established accept', 'drop'))).toBe(true);
  expect(dropsByDefault(chain('accept', 'counter packets 3 bytes 9 drop'))).toBe(true);
  expect(dropsByDefault(chain('accept', 'reject with icmpx type admin-prohibited'))).toBe(true);
  expect(dropsByDefault(chain('accept', 'reject with icmpx admin-prohibited'))).toBe(true);
  expect(dropsByDefault(chain('accept', 'ip saddr 192.0.2.1 drop'))).toBe(false);
  expect(dropsByDefault(chain('accept'))).toBe(false);
});
