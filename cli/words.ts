/** Text forms that several flags share: CSV fields, shell words, key=value lists, image names. */

/** Fields of one CSV line (RFC 4180 quotes). @throws Error for a lone quote, in Go's words */
export function csvFields(line: string): string[] {
  if (line === '') throw new Error('EOF');
  const fields: string[] = [];
  let at = 0;
  for (;;) {
    if (line[at] === '"') {
      const quoted = /^"((?:[^"]|"")*)"(,|$)/s.exec(line.slice(at));
      if (quoted === null)
        throw new Error(`parse error on line 1, column ${line.length + 1}: extraneous or missing " in quoted-field`);
      fields.push((quoted[1] ?? '').replaceAll('""', '"'));
      at += quoted[0].length;
      if (quoted[2] === '') return fields;
      continue;
    }
    const comma = line.indexOf(',', at);
    const field = comma < 0 ? line.slice(at) : line.slice(at, comma);
    if (field.includes('"')) {
      throw new Error(`parse error on line 1, column ${at + field.indexOf('"') + 1}: bare " in non-quoted-field`);
    }
    fields.push(field);
    if (comma < 0) return fields;
    at = comma + 1;
  }
}

/** A text cut at the first `separator`; the second part is undefined when there is none. */
export function cut(text: string, separator: string): [string, string | undefined] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, undefined] : [text.slice(0, at), text.slice(at + separator.length)];
}

/** Words of a command line by POSIX shell quoting. @throws Error for an open quote */
export function shellWords(text: string): string[] {
  const words: string[] = [];
  let word: string | undefined;
  for (let i = 0; i < text.length; i++) {
    const char = text[i] ?? '';
    if (char === "'" || char === '"') {
      let end = i + 1;
      word ??= '';
      for (; end < text.length && text[end] !== char; end++) {
        if (char === '"' && text[end] === '\\' && /["\\$`]/.test(text[end + 1] ?? '')) end++;
        word += text[end] ?? '';
      }
      if (end >= text.length) throw new Error('EOF found when expecting closing quote');
      i = end;
    } else if (/\s/.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else if (char === '\\') {
      word = (word ?? '') + (text[++i] ?? '');
    } else {
      word = (word ?? '') + char;
    }
  }
  if (word !== undefined) words.push(word);
  return words;
}

/** `k=v` words as a map; a word without `=` has the empty value. */
export function keyValues(words: readonly string[]): Record<string, string> {
  const result: Record<string, string> = {};
  for (const word of words) {
    const [key, value] = cut(word, '=');
    result[key] = value ?? '';
  }
  return result;
}

/** An image name in parts. `tag` and `digest` are absent when the name has none. */
export interface ImageName {
  name: string;
  tag?: string;
  digest?: string;
}

/** Parts of an image name, in the short form that users see (no `docker.io/library/`). */
export function imageName(text: string): ImageName {
  const [before, digest] = cut(text, '@');
  const colon = before.lastIndexOf(':');
  const tagged = colon > before.lastIndexOf('/');
  const name = (tagged ? before.slice(0, colon) : before)
    .replace(/^docker\.io\/library\//, '')
    .replace(/^docker\.io\//, '');
  return {
    name,
    ...(tagged ? { tag: before.slice(colon + 1) } : {}),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** Registry of an image name; Docker Hub's when it names none. */
export function imageRegistry(text: string): string {
  const first = text.split('/')[0] ?? '';
  // Paths are in lower case: what is not can only be a host.
  const isHost = /[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase();
  return text.includes('/') && isHost ? first : 'docker.io';
}

/** An image name in full: registry and, on Docker Hub, `library/`. */
export function fullImageName(name: string): string {
  if (imageRegistry(name) !== 'docker.io') return name;
  const short = name.replace(/^docker\.io\//, '');
  return short.includes('/') ? `docker.io/${short}` : `docker.io/library/${short}`;
}

/** The image as tables show it: a tagged name loses its digest. */
export function displayImage(text: string): string {
  const { name, tag } = imageName(text);
  return tag === undefined ? text : `${name}:${tag}`;
}

const NAME_FORM = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;

/** Refuses what cannot be an image name. @throws Error in the reference parser's words */
export function checkImageName(text: string): void {
  const { name, tag } = imageName(text);
  const registry = imageRegistry(name);
  const path = registry === 'docker.io' ? name.replace(/^docker\.io\//, '') : name.slice(registry.length + 1);
  if (/[A-Z]/.test(path))
    throw new Error(
      'invalid reference format: repository name (' +
        `${registry === 'docker.io' && !path.includes('/') ? 'library/' : ''}${path}) must be lowercase`,
    );
  if (!path.split('/').every((part) => NAME_FORM.test(part)) || (tag !== undefined && !/^\w[\w.-]{0,127}$/.test(tag))) {
    throw new Error('invalid reference format');
  }
}

/** Whether a text can be an image name. */
export function isImageName(text: string): boolean {
  try {
    checkImageName(text);
    return true;
  } catch {
    return false;
  }
}
