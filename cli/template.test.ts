import { describe, expect, it } from 'vitest';
import { indentJson, renderInspect } from './inspect.ts';
import { headers, renderListing, alignColumns } from './table.ts';
import { Template } from './template.ts';
import { Row } from './template-values.ts';

const run = (source: string, value: unknown = {}): string => new Template(source).run(value);

describe('templates', () => {
  const value = { Name: 'web', N: 3, On: true, List: ['a', 'b'], Map: { b: '2', a: '1' }, Deep: { Er: { x: [1] } } };

  it.each([
    ['{{.Name}}-{{.N}}', 'web-3'],
    ['{{json .List}}', '["a","b"]'],
    ['{{.Map}} {{.List}} {{.On}}', 'map[a:1 b:2] [a b] true'],
    ['{{range .List}}<{{.}}>{{end}}', '<a><b>'],
    ['{{range $k, $v := .Map}}{{$k}}={{$v}};{{end}}', 'a=1;b=2;'],
    ['{{range $i, $x := .List}}{{if $i}}, {{end}}{{$x}}{{end}}', 'a, b'],
    ['{{if eq .Name "web"}}y{{else}}n{{end}}', 'y'],
    ['{{if and .On (gt .N 5)}}y{{else if .On}}z{{end}}', 'z'],
    ['{{with .Deep}}{{.Er.x}}{{end}}', '[1]'],
    ['{{ .Name | upper | printf "%-5s|" }}', 'WEB  |'],
    ['{{index .Map "a"}}{{index .List 1}}{{index .Map "none"}}', '1b'],
    ['{{join .List ", "}} {{len .Map}} {{truncate .Name 2}} {{pad .Name 1 2}}|', 'a, b 2 we  web  |'],
    ['a {{- /* no */ -}} b', 'ab'],
    ['{{ $x := .N }}{{$x}}{{ println "!" }}', '3!\n'],
    ['{{(index .List 0)}}{{`raw`}}{{"q\\""}}', 'arawq"'],
    ['{{.UpdateStatus}}', '<nil>'],
  ])('%s', (source, text) => expect(run(source, value)).toBe(text));

  it('names what is wrong', () => {
    expect(() => run('{{.Nope}}', value)).toThrow('map has no entry for key "Nope"');
    expect(() => run('{{.Name')).toThrow('unclosed action');
    expect(() => run('{{if .Name}}x', value)).toThrow('unexpected EOF');
    expect(() => run('{{nope .Name}}', value)).toThrow('function "nope" not defined');
    expect(() => run('{{.Foo}}', new Row('*x.ctx', {}))).toThrow("can't evaluate field Foo in type *x.ctx");
  });
});

describe('tables', () => {
  const rows = [new Row('t', { ID: 'abc', Name: 'x>y' }), new Row('t', { ID: 'd', Name: '' })];
  const listing = { rows, columns: '{{.ID}}\t{{.Name}}', headers: headers('ID', 'Name=NAMES'), format: '' };

  it('pads columns as docker does', () => {
    expect(renderListing(listing)).toBe('ID        NAMES\nabc       x>y\nd         \n');
    expect(alignColumns('a\tb\nlong long long\tc')).toBe('a                b\nlong long long   c');
  });

  it('takes formats', () => {
    expect(renderListing({ ...listing, quiet: 'ID' })).toBe('abc\nd\n');
    expect(renderListing({ ...listing, format: 'json' })).toBe(
      '{"ID":"abc","Name":"x\\u003ey"}\n{"ID":"d","Name":""}\n',
    );
    expect(renderListing({ ...listing, format: 'table {{.Name}}\\t{{upper .ID}}' })).toBe(
      'NAMES     ID\nx>y       ABC\n          D\n',
    );
  });

  it('indents JSON without changing its tokens', () => {
    const text = '[{"a":9007199254740993,"b":[],"c":{},"d":"\\u003c:,{"}]';
    expect(indentJson(text)).toBe(
      '[\n    {\n        "a": 9007199254740993,\n        "b": [],\n        "c": {},\n        "d": "\\u003c:,{"\n    }\n]',
    );
    expect(renderInspect([], '')).toBe('[]\n');
    expect(renderInspect(['{"A":{"B":1}}'], '{{.A.B}}')).toBe('1\n');
  });
});
