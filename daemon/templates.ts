import { invalidArgument } from '../base/index.ts';

/** Values that a service's templates may name (Docker docs, "Create services using templates"). */
export interface TemplateContext {
  Service: { ID: string; Name: string; Labels: Readonly<Record<string, string>> };
  Node: { ID: string; Hostname: string; Platform: { Architecture: string; OS: string } };
  Task: { ID: string; Name: string; Slot: string };
}

function lookUp(path: string, context: TemplateContext): string {
  let value: unknown = context;
  for (const part of path.split('.').filter(Boolean)) {
    value =
      typeof value === 'object' && value !== null && Object.hasOwn(value, part)
        ? (value as Record<string, unknown>)[part]
        : undefined;
  }
  if (typeof value !== 'string') throw invalidArgument(`template: ${path} names no value`);
  return value;
}

function evaluate(expression: string, context: TemplateContext): string {
  const index = /^index\s+(\.[\w.]+)\s+"([^"]*)"$/.exec(expression);
  if (index?.[1] === '.Service.Labels') {
    const [labels, key] = [context.Service.Labels, index[2] ?? ''];
    return Object.hasOwn(labels, key) ? (labels[key] ?? '') : '';
  }
  if (/^\.[\w.]+$/.test(expression)) return lookUp(expression, context);
  throw invalidArgument(
    `template: "${expression}" is not understood: {{.Service.Name}}, {{.Node.Hostname}}, {{.Task.Slot}} and the like are`,
  );
}

/** Replaces every `{{…}}` of a text. @throws ShoalError InvalidArgument for what it does not know */
export function expandTemplate(text: string, context: TemplateContext): string {
  if (!text.includes('{{')) return text;
  return text.replace(/\{\{\s*(.*?)\s*\}\}/g, (_all, expression: string) => evaluate(expression, context));
}
