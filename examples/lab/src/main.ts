/** The page: its elements and events on one side, the laboratory's state and results on the other. */

import { visibleText } from '../../../models/visibleText.ts';
import { chooser } from './chooser.ts';
import type { CompareCard } from './compare.ts';
import { CurveCard } from './curveCard.ts';
import { byId, el } from './dom.ts';
import { ENDINGS, save } from './download.ts';
import { embed } from './embed.ts';
import { Ends } from './ends.ts';
import { fromDrop } from './files.ts';
import { figure, megabytes, percent, signed, word } from './format.ts';
import { Hand } from './hand.ts';
import { Lab, type Remedy, type View, WORDS } from './lab.ts';
import { NeuronMap, sumsOf } from './map.ts';
import { meaningOf } from './meaning.ts';
import { nameOfModel } from './models.ts';
import type { NotebookCard } from './notebookCard.ts';
import { keepForOffline } from './offline.ts';
import type { Answer, ModelCard, Progress, Study } from './protocol.ts';
import { colourBar, type Scale, scaleOf } from './scale.ts';
import { type NeuronId, type State, sameNeuron } from './state.ts';
import { type Elsewhere, Tabs } from './tabs.ts';
import { explainTerms } from './terms.ts';
import type { Tour } from './tour.ts';
import { whyNot } from './webgpu.ts';
import { WordList } from './words.ts';

const field = (id: string) => byId<HTMLInputElement>(id);
const sentence = byId<HTMLTextAreaElement>('text');
const choice = (id: string) => byId<HTMLSelectElement>(id);
const on = (id: string, event: string, act: (event: Event) => void) => byId(id).addEventListener(event, act);

const lab = new Lab({ render, busy, say, pick: (kind) => field(kind).click() });
const tabs = new Tabs(showElsewhere, () => void lab.yield());
const words = new WordList(byId<HTMLOListElement>('words'), (id) => lab.ask({ target: { id } }));
const hand = new Hand(byId<HTMLUListElement>('hand'), {
  onShift: (neuron, shift) => lab.shift(neuron, shift),
  onSelect: (neuron) => lab.select(neuron),
  onRemove: (neuron) => lab.remove(neuron),
});
const map = new NeuronMap(
  { frame: byId('map'), tooltip: byId('map-tip'), spoken: byId('map-spoken') },
  {
    onSelect: take,
    onLayer: (layer) => lab.look({ layer: layer === lab.view.state.layer ? null : layer }),
  },
);
const ends = new Ends(lab, take);
const curve = new CurveCard(lab);
chooser(lab);
embed(location.search);
/** They come after the first answer. */
let notebook: NotebookCard | null = null;
let tour: Tour | null = null;
let compare: CompareCard | null = null;
let speaking = 0;
/** What the map and the lists were last drawn from. */
let drawn: { study: Study | null; look: string } = { study: null, look: '' };

function take(neuron: NeuronId): void {
  lab.select(neuron);
  hand.focus(neuron);
  // Where there is one column, slider and answer are under each other.
  if (matchMedia('(max-width: 560px)').matches) document.querySelector('.answer')!.scrollIntoView();
}

explainTerms((term) => void import('./later.ts').then(({ openGlossary }) => openGlossary(term)));

// --- Showing ----------------------------------------------------------------------------------------------------------

function render(view: View): void {
  const { state, card, answer, study } = view;
  for (const card of document.querySelectorAll('.card')) {
    // Nothing is not old.
    const old = card.classList.contains('answer')
      ? answer !== null && !view.current.answer
      : study !== null && !view.current.study;
    card.classList.toggle('stale', old);
  }
  for (const ending of ENDINGS)
    for (const of of ['map', 'curve']) field(`${of}-${ending}`).disabled = !view.current.study;
  // Steering chooses among the neurons where the model is asked.
  field('steer-go').disabled = !view.current.study || state.at !== null;
  byId('steer-hint').hidden = state.at === null;
  byId('conventions').classList.toggle('stale', !view.current.study);
  // The model's own answer, as long as it is one to this sentence.
  field('target').placeholder = view.current.study && study ? word(study.target) : '';
  byId('model-name').textContent = visibleText(nameOfModel(state.model));
  byId('adapter').textContent = card
    ? `${card.layers} × ${card.width.toLocaleString('en')} neurons · ${megabytes(card.bytes)} on ${card.adapter}${card.software ? ' (software)' : ''}`
    : '';
  byId('sentence-label').textContent = !card
    ? 'Sentence'
    : card.mask !== null
      ? `Sentence with one ${card.mask}`
      : state.chat
        ? 'Message to the model'
        : 'Text to go on from';
  byId('chat-label').hidden = !card?.chat;
  field('chat').checked = state.chat;
  renderTokens(view);
  const opened = card !== null && card.serial !== filled;
  if (opened) filled = card.serial;
  if ((card?.serial ?? null) !== held) {
    held = card?.serial ?? null;
    tabs.hold(card && { model: state.model, bytes: card.bytes });
  }
  fill('text', state.text, opened);
  fill('target', targetText(view), opened);
  choice('dtype').value = state.dtype;
  choice('quantity').value = state.quantity;
  choice('direction').value = state.direction;
  choice('scale').value = state.scale;
  choice('order').value = state.order;
  renderSites(view);
  renderExamples();
  const remarks = (view.current.answer && answer?.remarks) || [];
  byId('remarks').hidden = remarks.length === 0;
  byId('remarks').textContent = remarks.map((remark) => `Note: ${remark}.`).join(' ');
  // While another model is opened, nothing of the one before stands under its name.
  if (answer) renderWords(view, answer);
  else words.show([], new Map(), -1);
  renderWritten(view);
  document.querySelector('.chart')!.classList.toggle('empty', !study);
  if (study) renderStudy(view, study);
  else clearStudy();
  renderHand(view);
  curve.show(view);
  field('undo').disabled = !lab.can.undo;
  field('redo').disabled = !lab.can.redo;
  notebook?.show(view);
  compare?.show(view);
  tour?.show(view);
}

/** The opening whose sentence and target are in the fields, and the one that other tabs are told of. */
let filled: number | undefined;
let held: number | null = null;

/** A field that the user is typing into is left alone, but for a model that was just opened. */
function fill(id: string, value: string, opened: boolean): void {
  if (!opened && document.activeElement === byId(id)) return;
  if (field(id).value === value) return;
  field(id).value = value;
  if (id === 'text') grow();
}

/** The sentence's field is as high as its lines. */
function grow(): void {
  sentence.style.height = 'auto';
  sentence.style.height = `${sentence.scrollHeight + sentence.offsetHeight - sentence.clientHeight}px`;
}

function targetText({ state, study }: View): string {
  const { target } = state;
  if (!target) return '';
  if ('word' in target) return target.word;
  return study?.target.id === target.id ? word(study.target) : `#${target.id}`;
}

function renderSites({ state, card }: View): void {
  const select = choice('site');
  const sites = card?.sites ?? [];
  if (select.options.length !== sites.length || sites.some((site, i) => select.options[i]?.value !== site)) {
    select.replaceChildren(...sites.map((site) => el('option', { text: site, attributes: { value: site } })));
  }
  if (card) select.value = state.site ?? card.paperSite;
}

function renderExamples(): void {
  const group = byId('examples');
  const examples = lab.examples();
  if (group.childElementCount === examples.length && group.firstElementChild?.textContent === examples[0])
    return;
  group.replaceChildren(
    ...examples.map((text) =>
      el('button', {
        class: 'chip',
        text,
        on: { click: () => lab.ask({ text, target: null }) },
        attributes: { type: 'button' },
      }),
    ),
  );
}

/** The prompt as the model reads it, a button a token: whose neurons are on the page. */
function renderTokens({ state, answer, current }: View): void {
  const list = byId('tokens');
  const tokens = (current.answer && answer?.tokens) || [];
  byId('reads-label').hidden = tokens.length === 0;
  const position = answer?.position ?? 0;
  const at = state.at ?? position;
  const unknown = answer?.unknown ?? [];
  const drawnOf = JSON.stringify([tokens, position]);
  const fresh = list.dataset.of !== drawnOf;
  if (fresh) {
    list.dataset.of = drawnOf;
    list.replaceChildren(
      ...tokens.map((text, i) =>
        el(
          'li',
          {},
          el('button', {
            text,
            on: { click: () => lab.ask({ at: i === position ? null : i }) },
            attributes: {
              type: 'button',
              title: `neurons at token ${i + 1}${i === position ? ', where the model is asked' : ''}${unknown.includes(i) ? ', a word that the model does not know' : ''}`,
              'data-mark': unknown.includes(i) ? 'unknown' : i === position ? 'asked' : null,
            },
          }),
        ),
      ),
    );
  }
  list.querySelectorAll('button').forEach((button, i) => {
    button.setAttribute('aria-pressed', String(i === at));
    if (i === at && fresh) list.scrollTop = button.offsetTop - list.offsetTop - list.clientHeight / 2;
  });
}

function renderWritten({ state, card, written, current }: View): void {
  byId('writing').hidden = card?.mask !== null;
  field('write').disabled = !current.study;
  const rows: [string, string][] = [];
  if (written) rows.push(['as it is', written.plain]);
  if (written?.moved && written.moved.shifts === state.shifts)
    rows.push(['with the neurons in hand', written.moved.text]);
  byId('written').replaceChildren(
    ...rows.flatMap(([name, text]) => [
      el('dt', { text: name }),
      el('dd', { text: visibleText(text, '\n') || '(the text ends here)' }),
    ]),
  );
}

function renderWords({ distribution }: View, { predictions, target, p }: Answer): void {
  const before = new Map(predictions.map((one) => [one.id, one.p]));
  before.set(target.id, p);
  const best = predictions.slice(0, WORDS);
  const still = best.some(({ id }) => id === target.id) ? best : [...best, { ...target, p }];
  const now = distribution?.predictions ?? still;
  words.show(now, before, target.id);
  // Screen readers hear where a drag has ended, not every step of it.
  clearTimeout(speaking);
  speaking = window.setTimeout(() => {
    if (!lab.view.answer) return;
    const at = now.find(({ id }) => id === target.id)?.p ?? p;
    byId('answer-spoken').textContent = `${word(target)}: ${percent(at)}; first is ${word(now[0]!)}.`;
  }, 600);
}

function renderStudy(view: View, study: Study): void {
  const { state, card } = view;
  const target = word(study.target);
  byId('steer-word').textContent = `“${target}”`;
  for (const element of document.querySelectorAll('.target-word')) element.textContent = `“${target}”`;

  const { quantity, scale: name, order, layer } = state;
  const look = [quantity, name, order, layer].join();
  if (drawn.study !== study || drawn.look !== look) {
    drawn = { study, look };
    const values = study[quantity];
    const { activation, neurgrad } = study;
    const { layers, width } = card!;
    const scale = scaleOf(name, values);
    map.show({ layers, width, values, quantity: QUANTITIES[quantity], activation, neurgrad, scale, order });
    map.open(layer);
    renderLegend(scale, quantity, target);
    renderLayers(card!, values, layer);
    ends.show(view);
    const { site, direction, at } = study.question;
    const where = at === null ? '' : ` at token ${at + 1} (“${study.tokens[at]}”)`;
    byId('conventions').textContent =
      `Site ${site}${where}, of prob, direction ${direction}, sign +, float32${state.dtype === 'f32' ? '' : ` with ${state.dtype} weights`}; p(“${target}”) = ${figure(study.p, 6)}.`;
  }
  map.mark(state.selected, state.shifts);
}

function clearStudy(): void {
  if (!drawn.study) return;
  drawn = { study: null, look: '' };
  map.clear();
  for (const id of ['positive', 'negative', 'random', 'layer']) byId(id).replaceChildren();
  for (const id of ['legend-low', 'legend-high', 'legend-text', 'conventions', 'answer-spoken'])
    byId(id).textContent = '';
  for (const element of document.querySelectorAll('.target-word, .within')) element.textContent = '';
  byId('steer-word').textContent = 'the target';
}

const QUANTITIES: Readonly<Record<State['quantity'], string>> = {
  neurgrad: 'NeurGrad',
  gradient: 'gradient',
  activation: 'activation',
};

function renderLegend({ name, high, low, beyond }: Scale, quantity: State['quantity'], target: string): void {
  const reach = beyond > 0 ? ' and beyond' : '';
  byId('legend-low').textContent = `${figure(-high)}${reach}`;
  byId('legend-high').textContent = `${signed(high)}${reach}`;
  byId('legend-bar').style.background = colourBar(name);
  const meaning: Record<State['quantity'], string> = {
    neurgrad: `how p(“${target}”) changes as a neuron is shifted by 1`,
    gradient: `dp(“${target}”)/da by backpropagation`,
    activation: 'value of each neuron',
  };
  const scale =
    beyond > 0
      ? `; ${beyond.toLocaleString('en')} neurons lie beyond the ends`
      : low > 0
        ? `; powers of ten, no colour below ${figure(low)}`
        : '';
  byId('legend-text').textContent = `${meaning[quantity]}${scale}. Bars: sum over a layer.`;
}

/** The menu of layers, each with its share of the sum of what is shown. */
function renderLayers(
  { layers, width }: ModelCard,
  values: Float32Array | Float64Array,
  layer: number | null,
): void {
  const sums = sumsOf(values, layers, width).map(({ up, down }) => up - down);
  const all = sums.reduce((a, b) => a + b, 0) || 1;
  const option = (value: string, text: string) => el('option', { text, attributes: { value } });
  choice('layer').replaceChildren(
    option('', 'all'),
    ...sums.map((sum, at) => option(String(at), `L${at} · ${percent(sum / all)}`)),
  );
  choice('layer').value = layer === null ? '' : String(layer);
}

function renderHand(view: View): void {
  const { state, study } = view;
  const { selected, shifts } = state;
  const ids: NeuronId[] = [...shifts];
  if (selected && !shifts.some((one) => sameNeuron(one, selected))) ids.unshift(selected);
  byId('hand-hint').hidden = ids.length > 0;
  byId('reset').hidden = shifts.length === 0;
  byId('axis-hint').hidden = state.direction === 'plain' || ids.length === 0;
  hand.show(
    (study ? ids : []).map(({ layer, index }) => ({ layer, index, ...lab.valuesOf({ layer, index }) })),
    selected,
  );
  const said = meaningOf(view, (neuron) => lab.valuesOf(neuron).axis);
  byId('meaning').hidden = ids.length === 0 || !study;
  byId('meaning').textContent = said ?? 'Move it, and here stands what that does.';
}

function busy(progress: Progress | null): void {
  byId('status').hidden = !progress;
  if (!progress) return;
  const { what, done, total, unit } = progress;
  const amount =
    unit === 'bytes' && total > 1e5
      ? `: ${megabytes(done)} of ${megabytes(total)}`
      : unit === 'words'
        ? `: ${done} of ${total} words`
        : '';
  byId('status-text').textContent = what + amount;
  const bar = byId<HTMLProgressElement>('status-bar');
  if (total > 0) bar.value = done / total;
  else bar.removeAttribute('value');
}

function say(sentence: string | null, remedies: readonly Remedy[] = []): void {
  byId('notice').hidden = sentence === null;
  // Names in it come from files.
  byId('notice-text').textContent = visibleText(sentence ?? '');
  byId('remedies').replaceChildren(
    ...remedies.map(({ label, act }) =>
      typeof act === 'function'
        ? el('button', { text: label, on: { click: act }, attributes: { type: 'button' } })
        : el('a', {
            class: 'button',
            text: label,
            attributes: { href: act.href, target: '_blank', rel: 'noopener' },
          }),
    ),
  );
}

/** Says that weights lie on the device for other tabs, too. */
function showElsewhere(others: readonly Elsewhere[]): void {
  const { card, state } = lab.view;
  const line = byId('elsewhere');
  line.hidden = !card || others.length === 0;
  if (!card) return;
  const bytes = others.reduce((sum, one) => sum + one.bytes, 0);
  const same = others.some(({ model }) => model === state.model);
  const where = others.length === 1 ? 'another tab' : `${others.length} other tabs`;
  byId('elsewhere-text').textContent = same
    ? `Open in ${where} too: its weights lie on the device once for each tab, ${megabytes(bytes)} more.`
    : `A model is open in ${where} too: ${megabytes(bytes)} more on the device.`;
}

// --- Events -----------------------------------------------------------------------------------------------------------

/** Typing is answered when it pauses. */
function typed(id: string, differs: () => boolean, act: () => void): void {
  let timer = 0;
  const pause = () => {
    clearTimeout(timer);
    byId('lab').classList.remove('typing');
    if (differs()) act();
  };
  on(id, 'input', () => {
    clearTimeout(timer);
    // What stands on the page is no longer of what stands in the field.
    byId('lab').classList.toggle('typing', differs());
    timer = window.setTimeout(pause, 300);
  });
  on(id, 'change', pause);
}

sentence.addEventListener('input', grow);
new ResizeObserver(grow).observe(byId('lab'));
sentence.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  sentence.dispatchEvent(new Event('change'));
});
const typedTarget = () => field('target').value.trim();
typed(
  'text',
  () => field('text').value !== lab.view.state.text,
  () => lab.ask({ text: field('text').value }),
);
typed(
  'target',
  () => typedTarget() !== targetText(lab.view),
  () => lab.ask({ target: typedTarget() === '' ? null : { word: typedTarget() } }),
);
on('quantity', 'change', () => lab.look({ quantity: choice('quantity').value as State['quantity'] }));
on('scale', 'change', () => lab.look({ scale: choice('scale').value as State['scale'] }));
on('order', 'change', () => lab.look({ order: choice('order').value as State['order'] }));
on('layer', 'change', () => {
  const { value } = choice('layer');
  lab.look({ layer: value === '' ? null : Number(value) });
});
on('zoom-in', 'click', () => map.zoom(1));
on('zoom-out', 'click', () => map.zoom(-1));
on('site', 'change', () => {
  const { card } = lab.view;
  const site = card?.sites.find((known) => known === choice('site').value);
  lab.ask({ site: site === card?.paperSite ? null : (site ?? null) });
});
on('direction', 'change', () =>
  lab.ask({ direction: choice('direction').value === 'plain' ? 'plain' : 'outward' }),
);
on('chat', 'change', () => lab.ask({ chat: field('chat').checked, target: null }));
on('write', 'click', () => void lab.write(10));
on('add', 'submit', (event) => {
  event.preventDefault();
  const found = lab.find(field('add-name').value);
  if (typeof found === 'string') return say(found);
  say(null);
  field('add-name').value = '';
  if (found.index === null || map.dense) lab.look({ layer: found.layer });
  if (found.index !== null) take(found);
});
on('reset', 'click', () => lab.reset());
on('undo', 'click', () => void lab.undo());
on('redo', 'click', () => void lab.redo());
on('take-tour', 'click', () => tour?.start());
document.addEventListener('keydown', (event) => {
  // In a field of text these keys are the field's own.
  if (
    !(event.ctrlKey || event.metaKey) ||
    (event.target as Element).matches('textarea, input:not([type="range"])')
  )
    return;
  const key = event.key.toLowerCase();
  if (key !== 'z' && key !== 'y') return;
  event.preventDefault();
  void (key === 'y' || event.shiftKey ? lab.redo() : lab.undo());
});
on('steer', 'submit', (event) => {
  event.preventDefault();
  void lab.steer(Number(field('wish').value) / 100, Number(field('count').value));
});
on('sweep', 'click', () => void lab.sweep(Number(choice('range').value)));
on('cancel', 'click', () => lab.cancel());
on('dismiss', 'click', () => say(null));
on('close-others', 'click', () => tabs.closeOthers());

on('share', 'click', async () => {
  history.replaceState(null, '', lab.link);
  const copied = await navigator.clipboard.writeText(lab.link).then(
    () => true,
    () => false,
  );
  byId('share').textContent = copied ? 'Copied' : 'In the address bar';
  setTimeout(() => {
    byId('share').textContent = 'Copy link';
  }, 2000);
});
for (const ending of ENDINGS) {
  on(`map-${ending}`, 'click', async () => (await import('./later.ts')).saveMap(lab.view, ending));
  on(`curve-${ending}`, 'click', async () => (await import('./later.ts')).saveCurve(lab.view, ending));
}
on('save-json', 'click', () => {
  const numbers = (_: string, value: unknown) =>
    value instanceof Float32Array || value instanceof Float64Array ? [...value] : value;
  save('neurgrad-lab.json', `${JSON.stringify(lab.saved, numbers, 1)}\n`, 'application/json');
});

document.addEventListener('dragover', (event) => {
  if (!event.dataTransfer?.types.includes('Files')) return;
  event.preventDefault();
  byId('drop').hidden = false;
});
document.addEventListener('dragleave', (event) => {
  if (!event.relatedTarget) byId('drop').hidden = true;
});
document.addEventListener('drop', async (event) => {
  if (!event.dataTransfer) return;
  event.preventDefault();
  byId('drop').hidden = true;
  const [file, ...more] = event.dataTransfer.files;
  if (file && more.length === 0 && /\.(html?|json)$/i.test(file.name)) return notebook?.open(file);
  const source = await fromDrop(event.dataTransfer);
  if (source) void lab.choose(source);
});
window.addEventListener('hashchange', () => void lab.arrive());
new ResizeObserver(() => curve.show(lab.view)).observe(byId('plot').parentElement!);

// Tests reach the page's own objects by this name.
Object.assign(window, { neurgradLab: lab });

const obstacle = await whyNot();
const played = obstacle === null || (await play(obstacle));
if (played) {
  await lab.start();
  const rest = await import('./later.ts');
  await curve.load();
  notebook = new rest.NotebookCard(lab, say);
  if (obstacle === null) {
    tour = new rest.Tour(lab.view);
    compare = new rest.CompareCard(lab, take);
    field('take-tour').disabled = false;
    void keepForOffline();
  }
}

/** Plays the recorded session where no model can run, and says so. @returns false where that cannot be opened either. */
async function play(why: string): Promise<boolean> {
  byId('unable').hidden = false;
  byId('unable-text').textContent = why;
  try {
    const { openPlayer, toldOf } = await import('./recorded/player.ts');
    const player = await openPlayer();
    lab.play(player);
    byId('recorded-text').textContent = toldOf(player.recording);
    byId('unable-title').textContent = 'Without WebGPU: a recorded session';
    byId('unable').classList.add('recorded');
    return true;
  } catch (error) {
    byId('recorded-text').textContent = `The recorded session cannot be played: ${(error as Error).message}.`;
    byId('lab').hidden = true;
    return false;
  }
}
