/**
 * The benchmarks in a browser, on `navigator.gpu`: the same suites as `npm run bench`, in wall time. There are no peers here; ratios are
 * of suites that compare two ways of our own. The address may say what to run: `?suites=limits,matmul&rounds=3&only=16+x`; with `autotune` the
 * kernels of products are chosen by measurement, which the browser keeps in IndexedDB.
 */

import * as Plot from '@observablehq/plot';
import { type Device, openDevice } from '../../engine/index.ts';
import { bySuite, grid, type Report, type Row } from '../rows.ts';
import { attentionSuite } from '../suites/attention.ts';
import { limitsSuite } from '../suites/limits.ts';
import { matmulSuite } from '../suites/matmul.ts';
import { modelSuite } from '../suites/model.ts';
import type { Suite } from '../suites/suite.ts';
import { wallClock } from '../timing.ts';

const SUITES: Readonly<Record<string, Suite>> = {
  limits: limitsSuite,
  matmul: matmulSuite,
  attention: attentionSuite,
  model: modelSuite,
};

const find = <T extends HTMLElement>(id: string): T => document.getElementById(id) as T;

function element<K extends keyof HTMLElementTagNameMap>(
  name: K,
  children: readonly (Node | string)[] = [],
): HTMLElementTagNameMap[K] {
  const made = document.createElement(name);
  made.append(...children);
  return made;
}

function table(rows: readonly Row[]): HTMLElement {
  const { head, body } = grid(rows);
  const line = (cells: readonly string[], kind: 'th' | 'td'): HTMLElement => {
    const row = element(
      'tr',
      cells.map((cell) => element(kind, [cell])),
    );
    row.classList.toggle('mean', cells[0] === 'geometric mean');
    return row;
  };
  const [thead, tbody] = [
    element('thead', [line(head, 'th')]),
    element(
      'tbody',
      body.map((cells) => line(cells, 'td')),
    ),
  ];
  return element('section', [element('h2', [rows[0]!.suite]), element('table', [thead, tbody])]);
}

/** Rates of all rows that have one, on a logarithmic axis. */
function chart(rows: readonly Row[]): Node {
  const bars = rows.flatMap((row) => {
    const rate = Object.entries(row.figures).find(([name]) => name.endsWith('GFLOP/s'))?.[1];
    return rate === undefined ? [] : [{ name: `${row.suite} ${row.shape}`, rate }];
  });
  if (bars.length === 0) return document.createTextNode('');
  return Plot.plot({
    ariaLabel: 'GFLOP/s by shape',
    width: 760,
    height: 60 + 20 * bars.length,
    marginLeft: 220,
    x: { label: 'GFLOP/s', grid: true, zero: true },
    y: { label: null, domain: bars.map((bar) => bar.name) },
    marks: [Plot.barX(bars, { x: 'rate', y: 'name', fill: '#2b6cb0' }), Plot.ruleX([0])],
  });
}

function show(report: Report): void {
  find('tables').replaceChildren(...[...bySuite(report.rows).values()].map(table));
  find('chart').replaceChildren(chart(report.rows));
  const save = find<HTMLAnchorElement>('save');
  if (save.href.startsWith('blob:')) URL.revokeObjectURL(save.href);
  save.href = URL.createObjectURL(
    new Blob([`${JSON.stringify(report, null, 1)}\n`], { type: 'application/json' }),
  );
  save.hidden = false;
}

async function run(device: Device, names: readonly string[]): Promise<void> {
  const status = find('status');
  const rows: Row[] = [];
  const { description, vendor, architecture, software } = device.info;
  for (const name of names) {
    rows.push(
      ...(await SUITES[name]!({
        device,
        peers: [],
        rounds: find<HTMLInputElement>('rounds').valueAsNumber,
        clock: wallClock,
        small: find<HTMLInputElement>('small').checked,
        only: find<HTMLInputElement>('only').value,
        progress: (line) => {
          status.textContent = line;
        },
      })),
    );
    show({
      date: new Date().toISOString(),
      adapter: `${description || `${vendor} ${architecture}`}${software ? ' (software)' : ''}`,
      machine: navigator.userAgent,
      versions: {},
      rows,
    });
  }
  status.textContent = 'Done.';
}

const asked = new URLSearchParams(location.search);
const chosen = asked.get('suites')?.split(',') ?? ['limits', 'matmul', 'attention'];
for (const name of Object.keys(SUITES)) {
  const box = Object.assign(element('input'), {
    type: 'checkbox',
    value: name,
    checked: chosen.includes(name),
  });
  find('suites').append(element('label', [box, ` ${name} `]));
}
if (asked.has('rounds')) find<HTMLInputElement>('rounds').value = asked.get('rounds')!;
find<HTMLInputElement>('only').value = asked.get('only') ?? '';
try {
  const device = await openDevice({ autotune: asked.has('autotune') });
  const { description, vendor, architecture, software } = device.info;
  find('adapter').textContent =
    `${description || `${vendor} ${architecture}`}${software ? ': runs on the processor, its times are not a GPU’s' : ''}${device.tuning.size > 0 ? `; kernels chosen by measurement: ${[...device.tuning].map(([of, kernel]) => `${of} ${kernel}`).join(', ')}` : ''}`;
  find('form').addEventListener('submit', (event) => {
    event.preventDefault();
    const button = find('form').querySelector('button')!;
    button.disabled = true;
    const names = [...find('suites').querySelectorAll('input')].filter((box) => box.checked);
    run(
      device,
      names.map((box) => box.value),
    )
      .catch((error: Error) => {
        find('status').textContent = error.message;
      })
      .finally(() => {
        button.disabled = false;
      });
  });
} catch (error) {
  find('adapter').textContent = (error as Error).message;
}
