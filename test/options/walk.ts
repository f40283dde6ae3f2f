/**
 * The doors of the package: every parameter of a public function, constructor or method that is an object of options, found in
 * the sources. What an options object is is told by its type: one with members that may be left out, or by its name.
 */

import { readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseSync } from 'vite';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** A node of the syntax tree, as far as it is read here. */
type Node = { readonly type: string } & Readonly<Record<string, unknown>>;

export interface Door {
  /** As its users call it: `sweep`, `AdamW`, `Transformer.prefill`. */
  readonly name: string;
  readonly file: string;
  /** What the parameter's type is called, or its text where it has no name. */
  readonly type: string;
  readonly argument: string;
  /** An object of options, or a word out of some. */
  readonly kind: 'options' | 'choice';
}

interface Source {
  readonly text: string;
  readonly body: readonly Node[];
}

const sources = new Map<string, Source>();
function sourceOf(file: string): Source {
  let found = sources.get(file);
  if (!found) {
    const text = readFileSync(file, 'utf8');
    found = { text, body: parseSync(file, text).program.body as unknown as Node[] };
    sources.set(file, found);
  }
  return found;
}

interface Place {
  readonly file: string;
  readonly node: Node;
}

const nameOf = (node: unknown): string | undefined => (node as { id?: { name?: string } } | null)?.id?.name;
const declared = (node: Node): Node =>
  node.type.startsWith('Export') ? ((node.declaration as Node) ?? node) : node;

/** Everything that a file exports, by name. */
function exportsOf(file: string): Map<string, Place> {
  const found = new Map<string, Place>();
  const { body } = sourceOf(file);
  for (const node of body) {
    if (node.type === 'ExportAllDeclaration')
      for (const each of exportsOf(from(file, node))) found.set(...each);
    if (node.type !== 'ExportNamedDeclaration') continue;
    const { declaration, source } = node as { declaration?: Node; source?: unknown };
    const names = ((node.specifiers as Node[]) ?? []).map(
      ({ local, exported }) => [(local as Named).name, (exported as Named).name] as const,
    );
    if (source) {
      const inner = exportsOf(from(file, node));
      for (const [local, exported] of names) if (inner.has(local)) found.set(exported, inner.get(local)!);
    } else if (declaration?.type === 'VariableDeclaration') {
      for (const each of declaration.declarations as Node[]) found.set(nameOf(each)!, { file, node: each });
    } else if (declaration) found.set(nameOf(declaration)!, { file, node: declaration });
    for (const [local, exported] of source ? [] : names) {
      const place = lookUp(file, local);
      if (place) found.set(exported, place);
    }
  }
  return found;
}

type Named = { readonly name: string };
const from = (file: string, node: Node): string =>
  join(dirname(file), (node.source as { value: string }).value);

/** What a name stands for in a file, its own or imported. */
function lookUp(file: string, name: string): Place | undefined {
  for (const outer of sourceOf(file).body) {
    const node = declared(outer);
    if (nameOf(node) === name) return { file, node };
    if (node.type !== 'ImportDeclaration' || !(node.source as { value: string }).value.startsWith('.'))
      continue;
    for (const { local, imported } of node.specifiers as { local: Named; imported?: Named }[])
      if (local.name === name && imported) return exportsOf(from(file, node)).get(imported.name);
  }
  return undefined;
}

/** Declarations being looked into: types may name themselves. */
const open = new Set<Node>();
function once(place: Place, look: () => boolean): boolean {
  if (open.has(place.node)) return false;
  open.add(place.node);
  try {
    return look();
  } finally {
    open.delete(place.node);
  }
}

/** Whether members of a type may be left out. `only`: of these members. */
function optional(file: string, type: Node | undefined, only?: ReadonlySet<string>): boolean {
  if (!type) return false;
  const any = (types: unknown): boolean => (types as Node[]).some((each) => optional(file, each, only));
  const members = (list: unknown): boolean =>
    (list as Node[]).some(
      (member) =>
        member.type === 'TSPropertySignature' &&
        member.optional === true &&
        (only?.has((member.key as Named).name) ?? true),
    );
  if (type.type === 'TSTypeLiteral') return members(type.members);
  if (type.type === 'TSIntersectionType' || type.type === 'TSUnionType') return any(type.types);
  if (type.type === 'TSParenthesizedType' || type.type === 'TSTypeOperator')
    return optional(file, type.typeAnnotation as Node, only);
  if (type.type === 'TSArrayType') return optional(file, type.elementType as Node, only);
  if (type.type !== 'TSTypeReference') return false;
  const name = (type.typeName as Named).name;
  const parameters = ((type.typeArguments as { params?: Node[] } | undefined)?.params ?? []) as Node[];
  if (name === 'Partial') return true;
  if (name === 'Pick') return optional(file, parameters[0], new Set(literals(parameters[1]!)));
  if (name === 'Omit' || name === 'Readonly') return optional(file, parameters[0], only);
  const place = name ? lookUp(file, name) : undefined;
  if (place?.node.type === 'TSTypeAliasDeclaration')
    return once(place, () => optional(place.file, place.node.typeAnnotation as Node, only));
  if (place?.node.type !== 'TSInterfaceDeclaration') return false;
  return (
    members((place.node.body as Node).body) ||
    (place.node.extends as { expression: Named; typeArguments?: unknown }[]).some((base) =>
      optional(
        place.file,
        { type: 'TSTypeReference', typeName: base.expression, typeArguments: base.typeArguments },
        only,
      ),
    )
  );
}

const literals = (type: Node): string[] =>
  type.type === 'TSUnionType'
    ? (type.types as Node[]).flatMap(literals)
    : [(type.literal as { value: string }).value];

/** Whether a type is a choice among words. */
function choice(file: string, type: Node): boolean {
  if (type.type === 'TSUnionType') return (type.types as Node[]).some((each) => choice(file, each));
  if (type.type === 'TSLiteralType') return typeof (type.literal as { value?: unknown }).value === 'string';
  if (type.type === 'TSTypeOperator') return type.operator === 'keyof';
  // (typeof WORDS)[number], Task['kind']
  if (type.type === 'TSIndexedAccessType') {
    const { objectType, indexType } = type as unknown as { objectType: Node; indexType: Node };
    if (indexType.type === 'TSNumberKeyword') return true;
    const place = lookUp(file, (objectType.typeName as Named | undefined)?.name ?? '');
    const wanted = (indexType.literal as { value?: string } | undefined)?.value;
    const { body } = (place?.node.body ?? { body: [] }) as { body?: Node[] };
    return (body ?? []).some(
      (member) =>
        (member.key as Named | undefined)?.name === wanted &&
        member.typeAnnotation != null &&
        choice(place!.file, (member.typeAnnotation as { typeAnnotation: Node }).typeAnnotation),
    );
  }
  const name = type.type === 'TSTypeReference' ? (type.typeName as Named).name : undefined;
  const place = name ? lookUp(file, name) : undefined;
  if (place?.node.type === 'TSTypeAliasDeclaration')
    return (
      !place.node.typeParameters && once(place, () => choice(place.file, place.node.typeAnnotation as Node))
    );
  return false;
}

const NAMED = /(Options|Settings|Conventions|Input)$/;

/** Doors of one function. */
function doorsOf(file: string, name: string, parameters: readonly Node[]): Door[] {
  const { text } = sourceOf(file);
  return parameters.flatMap((parameter) => {
    const pattern = (parameter.type === 'AssignmentPattern' ? parameter.left : parameter) as Node;
    const type = (pattern.typeAnnotation as { typeAnnotation?: Node } | undefined)?.typeAnnotation;
    if (!type) return [];
    const { start, end } = type as unknown as { start: number; end: number };
    const written = text.slice(start, end).replace(/\s+/g, ' ');
    const options = optional(file, type) || NAMED.test(written);
    if (!options && !choice(file, type)) return [];
    const argument = pattern.type === 'Identifier' ? (pattern as unknown as Named).name : '';
    return [
      { name, file: relative(ROOT, file), type: written, argument, kind: options ? 'options' : 'choice' },
    ];
  });
}

/** Members of a class and the classes it extends, or of an interface. */
function membersOf(file: string, node: Node | null): [string, Node][] {
  if (node?.type !== 'ClassDeclaration' && node?.type !== 'TSInterfaceDeclaration') return [];
  const own = (node.body as { body: Node[] }).body.map((member): [string, Node] => [file, member]);
  const base = (node.superClass as Partial<Named> | null | undefined)?.name;
  const place = base ? lookUp(file, base) : undefined;
  return place ? [...own, ...membersOf(place.file, place.node)] : own;
}

/** Parameters of a method, in a class or an interface, or of a property that is a function. */
function parametersOf(member: Node): readonly Node[] {
  const type = (member.typeAnnotation as { typeAnnotation?: Node } | null | undefined)?.typeAnnotation;
  const value = member.value as { params?: Node[] } | null | undefined;
  return (value?.params ?? member.params ?? type?.params ?? []) as Node[];
}

/** All doors of the package, each once. */
export function findDoors(entries: readonly string[]): Door[] {
  const found = new Map<string, Door>();
  const seen = new Set<Node>();
  const keep = (doors: readonly Door[]): void => {
    for (const door of doors) found.set(`${door.file} ${door.name} ${door.argument} ${door.type}`, door);
  };
  for (const entry of entries)
    for (const [name, { file, node }] of exportsOf(join(ROOT, entry))) {
      if (seen.has(node)) continue;
      seen.add(node);
      const made = node.type === 'VariableDeclarator' ? (node.init as Node | null) : node;
      if (made?.params) keep(doorsOf(file, name, made.params as Node[]));
      for (const [place, member] of membersOf(file, made)) {
        const key = member.key as (Named & { type: string }) | undefined;
        if (!key || key.type === 'PrivateIdentifier' || member.accessibility === 'private') continue;
        const parameters = parametersOf(member);
        const method = key.name === 'constructor' ? name : `${name}.${key.name}`;
        keep(doorsOf(place, method, parameters));
      }
    }
  return [...found.values()];
}

/** The sources behind the entries of package.json. */
export function entries(): string[] {
  const { exports } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    exports: Record<string, string | { default: string }>;
  };
  return Object.values(exports).flatMap((entry) =>
    typeof entry === 'string' ? [] : [entry.default.replace('./dist/', '').replace(/\.js$/, '.ts')],
  );
}

/** What stands above the declaration of something that the package exports. */
export function documentation(name: string): string {
  for (const entry of entries()) {
    const place = exportsOf(join(ROOT, entry)).get(name);
    if (!place) continue;
    const before = sourceOf(place.file).text.slice(0, (place.node as unknown as { start: number }).start);
    return /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*(?:export )?(?:async )?(?:const )?$/.exec(before)?.[1] ?? '';
  }
  return '';
}
