/**
 * The tables of names in docs/conventions.md, as the families' descriptions have them: hook points with the modules of Hugging Face
 * transformers, and parameters that a checkpoint stores otherwise. `npx vitest run test/docs/names.test.ts -u` writes them anew.
 */

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  FAMILIES,
  type FamilyName,
  type HookTable,
  hooksOf,
  parametersOf,
  parseConfig,
  presetConfig,
} from '../../models/index.ts';
import { storedTensors } from '../../models/stored.ts';

const PAGE = 'docs/conventions.md';

/** Families of one column have one list of modules; what some of them have alone is marked. */
const COLUMNS = {
  masked: [['bert'], ['roberta', 'xlm-roberta', 'camembert'], ['distilbert'], ['modernbert']],
  causal: [
    ['llama', 'mistral', 'qwen2', 'qwen3'],
    ['phi3'],
    ['olmo2'],
    ['gemma2', 'gemma3_text'],
    ['gpt2'],
    ['gpt_neox'],
  ],
} as const satisfies Record<string, readonly (readonly FamilyName[])[]>;
type Kind = keyof typeof COLUMNS;

/** Two layers, of which the second stands for all. */
const descriptionOf = (name: FamilyName) =>
  parseConfig(presetConfig(Object.keys(FAMILIES[name].presets)[0]!, 2)).description;

const general = (name: string): string => name.replace(/\.1(?=\.|$)/, '.L');
/** TransformerLens's names of encoders, which are no modules. */
const isModule = (alias: string): boolean => !/^(embed|mlm_head|blocks)\./.test(alias);

/** Modules by name of a family, and what the names of its layers' modules begin with. */
function namesOf(family: FamilyName): { readonly layer: string; readonly modules: Map<string, string[]> } {
  const hooks: HookTable = hooksOf(descriptionOf(family));
  const names = hooks.names.filter((name) => !name.startsWith('blocks.0.'));
  const modules = new Map(names.map((name): [string, string[]] => [general(name), []]));
  for (const [alias, name] of hooks.aliases)
    if (isModule(alias)) modules.get(general(name))?.push(general(alias));
  const layer = [...modules.values()].flat().find((module) => module.endsWith('.L'))!;
  return { layer, modules };
}

const code = (text: string): string => `\`${text}\``;
const row = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`;
const tableOf = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n');

function hookTable(kind: Kind): string {
  const columns = COLUMNS[kind].map((families: readonly FamilyName[]) => ({
    families,
    names: families.map(namesOf),
  }));
  // In forward order: what only later columns have comes before what it precedes there.
  const all: string[] = [];
  for (const { names } of columns)
    for (const { modules } of names) {
      let at = all.length;
      for (const name of [...modules.keys()].reverse()) {
        const known = all.indexOf(name);
        if (known < 0) all.splice(at, 0, name);
        else at = known;
      }
    }
  const cells = (name: string) =>
    columns.map(({ families, names }) => {
      const having = names.map(({ modules }) => modules.get(name));
      const some = having.find((each) => each !== undefined);
      if (!some) return '–';
      const { layer } = names[0]!;
      const lists = having.flatMap((each) => (each ? [each.join()] : []));
      expect(new Set(lists).size, `${families.join()} differ in the modules of ${name}`).toBe(1);
      const paths = some.map((module) => code(module.replace(layer, '…')));
      const whose = having.includes(undefined)
        ? ` (${families.filter((_, i) => having[i] !== undefined).join(', ')})`
        : '';
      return `${paths.join(', ') || '✓'}${whose}`;
    });
  return tableOf(
    ['name', ...columns.map(({ families }) => families.map(code).join(', '))],
    [
      ['…', ...columns.map(({ names }) => code(names[0]!.layer))],
      ...all.map((name) => [code(name), ...cells(name)]),
    ],
  );
}

function storedTable(): string {
  const rows = (Object.keys(FAMILIES) as FamilyName[]).flatMap((family) =>
    [...storedTensors(parametersOf(descriptionOf(family)).filter(({ stage }) => stage === 1)).values()]
      .filter(({ name, transposed, parts }) => name.endsWith('.weight') && (transposed || parts.length > 1))
      .map(({ name, transposed, parts }) => [
        code(family),
        code(general(name)),
        transposed ? '[in, out]' : '[out, in]',
        parts.length === 1
          ? 'the whole'
          : parts
              .map(({ parameter }) => code(general(parameter.name).replace(general(name), '…')))
              .join(', '),
        parts.length === 1 ? '' : parts[0]!.runs.length === 1 ? 'one after the other' : 'head by head',
      ]),
  );
  return tableOf(['family', 'tensor', 'stored as', 'parameters', 'laid out'], rows);
}

test('the tables are those of the families', async () => {
  const tables = { masked: hookTable('masked'), causal: hookTable('causal'), stored: storedTable() };
  const page = readFileSync(PAGE, 'utf8');
  const region = /(<!-- names: (\w+) -->\n).*?(<!-- end -->)/gs;
  expect([...page.matchAll(region)].map(([, , name]) => name)).toEqual(Object.keys(tables));
  const made = page.replace(
    region,
    (_, begin: string, name: keyof typeof tables, end: string) => `${begin}${tables[name]}\n${end}`,
  );
  await expect(made).toMatchFileSnapshot(`../../${PAGE}`);
});

test('every family has its column, and every name is explained', () => {
  expect(Object.values(COLUMNS).flat(2).toSorted()).toEqual(Object.keys(FAMILIES).toSorted());
  for (const [kind, columns] of Object.entries(COLUMNS))
    for (const family of columns.flat()) expect(descriptionOf(family).causal, family).toBe(kind === 'causal');
  const [, section] = /^### What they are$(.*?)^### /ms.exec(readFileSync(PAGE, 'utf8'))!;
  const explained = [...section!.matchAll(/^\| (.*?) \|/gm)].flatMap(([, cell]) =>
    [...cell!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!),
  );
  const names = Object.values(COLUMNS)
    .flat(2)
    .flatMap((family) => [...namesOf(family).modules.keys()]);
  expect(explained.toSorted()).toEqual([...new Set(names)].toSorted());
});
