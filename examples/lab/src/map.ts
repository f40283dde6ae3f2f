/**
 * The map: one cell a neuron, layers as bands from top to bottom, a band broken into as many lines as give the largest
 * cells, beside it a bar for the sum over the layer. Values become an image of one pixel a cell once; every frame only scales
 * that image and draws a few rings, so hundreds of thousands of cells cost no more than a few. What is higher than the window
 * scrolls: the canvas is the part of it that is seen.
 *
 * A layer can be opened: its band has cells that are large enough to be pointed at, between the others. Zoom does so for all.
 *
 * Keys: arrows move, Home and End go to the ends of a layer, Page Up and Down to the next layer, Enter selects, O opens a layer
 * and closes it, + and - zoom.
 */

import { figure, signed } from './format.ts';
import { type Scale, strength } from './scale.ts';
import { type NeuronId, nameOf, sameNeuron } from './state.ts';

export interface MapData {
  readonly layers: number;
  readonly width: number;
  /** layer * width + index. */
  readonly values: Float32Array | Float64Array;
  /** What the values are, as the sums are told. */
  readonly quantity: string;
  readonly activation: Float32Array;
  readonly neurgrad: Float64Array;
  readonly scale: Scale;
  /** Cells of a layer by the neurons' numbers, or by the size of their values. */
  readonly order: 'number' | 'strongest';
}

interface Cells {
  /** CSS pixels of one cell. */
  readonly wide: number;
  readonly high: number;
  readonly columns: number;
  /** Lines of one layer. */
  readonly lines: number;
}

export interface MapEvents {
  readonly onSelect: (neuron: NeuronId) => void;
  /** A layer is opened, or closed if it is the open one. */
  readonly onLayer: (layer: number) => void;
}

/** Room for the layers' names and for the bars of their sums, largest cell, cells of an open layer, size of the font: in the page's own unit. */
const GUTTER = 2;
const BARS = 4;
const LARGEST = 1.75;
const OPENED = 0.75;
const FONT = 0.72;
const ZOOM = 1.5;

/** CSS pixels of the page's unit, which grows with the window. */
const rem = (): number => Number.parseFloat(getComputedStyle(document.documentElement).fontSize);

const gapOf = (layers: number): number => (layers > 16 ? 2 : 6);

/**
 * The largest cells with which all layers fit into `width` x `height`, lines that are all full counting for a quarter
 * more. Cells have 2 pixels at least: a map of very many neurons is higher than asked for.
 */
export function layOut(
  layers: number,
  neurons: number,
  width: number,
  height: number,
  largest: number,
): Cells & { readonly gap: number } {
  const gap = gapOf(layers);
  const band = height / layers - gap;
  let best = { ...squares(neurons, width, 2), gap };
  let bestScore = 0;
  for (let lines = 1; lines <= neurons; lines++) {
    const columns = Math.ceil(neurons / lines);
    const wide = Math.min(largest, Math.floor(width / columns));
    const high = Math.min(largest, Math.floor(band / lines));
    const score = Math.min(wide, high) < 2 ? 0 : Math.min(wide, high) * (neurons % columns === 0 ? 1.25 : 1);
    if (score <= bestScore) continue;
    best = { wide, high, columns, lines, gap };
    bestScore = score;
  }
  return best;
}

/** As many square cells beside each other as fit. */
export function squares(neurons: number, width: number, side: number): Cells {
  const columns = Math.max(1, Math.min(neurons, Math.floor(width / side)));
  return { wide: side, high: side, columns, lines: Math.ceil(neurons / columns) };
}

/** Sums of a layer's values: of those above 0 and of those below. */
export function sumsOf(
  values: ArrayLike<number>,
  layers: number,
  width: number,
): { up: number; down: number }[] {
  return Array.from({ length: layers }, (_, layer) => {
    let [up, down] = [0, 0];
    for (let i = layer * width; i < (layer + 1) * width; i++) {
      if (values[i]! > 0) up += values[i]!;
      else down += values[i]!;
    }
    return { up, down };
  });
}

export class NeuronMap {
  readonly #frame: HTMLElement;
  readonly #roll: HTMLElement;
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  /** All layers with small cells, and the open one with its own. */
  readonly #image = document.createElement('canvas');
  readonly #opened = document.createElement('canvas');
  readonly #tooltip: HTMLElement;
  readonly #spoken: HTMLElement;
  readonly #events: MapEvents;
  #data: MapData | null = null;
  #sums: { up: number; down: number }[] = [];
  /** Of each layer, which neuron lies where; null: by number. */
  #neuronAt: Uint32Array | null = null;
  #placeOf: Uint32Array | null = null;
  #small: Cells = squares(1, 1, 1);
  #large: Cells = squares(1, 1, 1);
  #gap = 0;
  #open: number | null = null;
  #zoom = 1;
  #cursor: NeuronId | null = null;
  /** The layer whose name or bar is pointed at. */
  #pointed: number | null = null;
  #selected: NeuronId | null = null;
  #marked: readonly NeuronId[] = [];
  #frameNumber = 0;
  /** Where cells and bars begin, and how long bars are at most, in CSS pixels. */
  #left = 0;
  #barLeft = 0;
  #barLong = 0;

  constructor(host: { frame: HTMLElement; tooltip: HTMLElement; spoken: HTMLElement }, events: MapEvents) {
    const { frame } = host;
    frame.tabIndex = 0;
    const canvas = frame.querySelector('canvas')!;
    this.#frame = frame;
    this.#roll = canvas.parentElement!;
    this.#canvas = canvas;
    this.#context = canvas.getContext('2d')!;
    this.#tooltip = host.tooltip;
    this.#spoken = host.spoken;
    this.#events = events;
    canvas.addEventListener('pointermove', (event) => this.#point(event));
    canvas.addEventListener('pointerleave', () => this.#point(null));
    // A click's own position is rounded to whole pixels, where a pointer's is not: at an edge it would take another
    // neuron than the one that is named.
    let released: PointerEvent | null = null;
    canvas.addEventListener('pointerup', (event) => {
      released = event;
    });
    canvas.addEventListener('click', () => {
      if (!released) return;
      const neuron = this.#at(released);
      const layer = neuron ? null : this.#layerBeside(released);
      if (neuron) this.#events.onSelect(neuron);
      else if (layer !== null) this.#events.onLayer(layer);
    });
    // A pinch on a touchpad comes as this, too.
    canvas.addEventListener(
      'wheel',
      (event) => {
        if (!event.ctrlKey && !event.metaKey) return;
        event.preventDefault();
        this.zoom(event.deltaY < 0 ? 1 : -1, this.#at(event));
      },
      { passive: false },
    );
    frame.addEventListener('keydown', (event) => this.#key(event));
    frame.addEventListener('blur', () => this.#moveTo(null, false));
    frame.addEventListener('scroll', () => this.#draw());
    new ResizeObserver(() => this.#resize()).observe(frame);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#paint());
  }

  show(data: MapData): void {
    const first = this.#data?.layers !== data.layers || this.#data.width !== data.width;
    if (first) this.#zoom = 1;
    this.#data = data;
    this.#sums = sumsOf(data.values, data.layers, data.width);
    this.#sort();
    if (first) this.#resize();
    this.#paint();
  }

  /** Nothing: there is no model yet. The room that the last one took stays, so that the page does not jump. */
  clear(): void {
    this.#moveTo(null, false);
    this.#data = null;
    this.#draw();
  }

  mark(selected: NeuronId | null, marked: readonly NeuronId[]): void {
    const moved = !sameNeuron(selected, this.#selected);
    this.#selected = selected;
    this.#marked = marked;
    if (moved && selected) {
      this.#reveal(selected);
      // Keys go on from what was found or taken, not from where they or the pointer were.
      if (!sameNeuron(selected, this.#cursor)) this.#moveTo(null, false);
    }
    this.#draw();
  }

  /** Whether cells are too small to find one among them. */
  get dense(): boolean {
    return Math.min(this.#small.wide, this.#small.high) < 6;
  }

  /** Opens a layer in place; null: none. */
  open(layer: number | null): void {
    if (layer === this.#open) return;
    this.#open = layer;
    this.#resize();
    const data = this.#data;
    if (layer === null || !data || layer >= data.layers) return;
    this.#reveal({ layer, index: this.#neuron(layer, data.width - 1) });
    this.#reveal({ layer, index: this.#neuron(layer, 0) });
    if (this.#selected?.layer === layer) this.#reveal(this.#selected);
  }

  /** Larger cells, or smaller ones, down to all in one view. `about` stays where it is. */
  zoom(steps: number, about: NeuronId | null = this.#cursor ?? this.#selected): void {
    const data = this.#data;
    if (!data) return;
    const before = this.#zoom;
    this.#zoom = Math.max(1, before * ZOOM ** steps);
    const kept = about ?? { layer: 0, index: this.#neuron(0, 0) };
    const was = this.#cornerOf(kept).y - this.#frame.scrollTop;
    const { small } = this.#fit();
    // Cells do not grow any more.
    if (steps > 0 && small.wide === this.#small.wide && small.high === this.#small.high) this.#zoom = before;
    this.#resize();
    this.#frame.scrollTop = this.#cornerOf(kept).y - was;
  }

  #sort(): void {
    const { layers, width, values, order } = this.#data!;
    this.#neuronAt = this.#placeOf = null;
    if (order === 'number') return;
    this.#neuronAt = new Uint32Array(layers * width);
    this.#placeOf = new Uint32Array(layers * width);
    for (let layer = 0; layer < layers; layer++) {
      const first = layer * width;
      const sorted = Uint32Array.from({ length: width }, (_, index) => index).sort(
        (a, b) => Math.abs(values[first + b]!) - Math.abs(values[first + a]!) || a - b,
      );
      this.#neuronAt.set(sorted, first);
      sorted.forEach((index, place) => {
        this.#placeOf![first + index] = place;
      });
    }
  }

  /** The neuron at a place of a layer, and back. */
  #neuron(layer: number, place: number): number {
    return this.#neuronAt?.[layer * this.#data!.width + place] ?? place;
  }
  #place({ layer, index }: NeuronId): number {
    return this.#placeOf?.[layer * this.#data!.width + index] ?? index;
  }

  /** Cells for the room that there is. */
  #fit(): { small: Cells; large: Cells; gap: number } {
    const { layers, width } = this.#data!;
    const unit = rem();
    const room = this.#frame.clientWidth - Math.round((GUTTER + BARS) * unit);
    // Very many neurons get more of the window: cells must be large enough to be pointed at.
    const share = layers * width > 10_000 ? 0.62 : 0.4;
    const height = Math.max(200, Math.min(innerHeight * share, 1.1 * this.#frame.clientWidth));
    const largest = Math.round(LARGEST * unit);
    const { gap, ...whole } = layOut(layers, width, room, height, largest);
    const side = (least: number) => Math.min(largest, Math.round(least));
    const fit = Math.min(whole.wide, whole.high);
    const small = this.#zoom === 1 ? whole : squares(width, room, side(this.#zoom * fit));
    const large = squares(
      width,
      room,
      side(Math.max(OPENED * unit, 1.5 * fit, Math.min(small.wide, small.high))),
    );
    return { small, large, gap };
  }

  #resize(): void {
    if (!this.#data) return;
    const { small, large, gap } = this.#fit();
    this.#small = small;
    this.#large = large;
    this.#gap = gap;
    const unit = rem();
    this.#left = Math.round(GUTTER * unit);
    const cells = (each: Cells) => each.columns * each.wide;
    const widest = Math.max(cells(small), this.#open === null ? 0 : cells(large));
    this.#barLeft = this.#left + widest + Math.round(0.6 * unit);
    this.#barLong = Math.round((BARS - 0.7) * unit);
    const { layers } = this.#data;
    const whole = this.#topOf(layers) - gap + 2;
    const seen = Math.min(whole, Math.round(0.85 * innerHeight));
    this.#roll.style.height = `${whole}px`;
    this.#frame.style.height = `${seen}px`;
    const ratio = devicePixelRatio;
    const wide = this.#barLeft + this.#barLong;
    this.#canvas.style.width = `${wide}px`;
    this.#canvas.style.height = `${seen}px`;
    this.#canvas.width = Math.round(wide * ratio);
    this.#canvas.height = Math.round(seen * ratio);
    this.#paint();
  }

  /** Values to pixels. */
  #paint(): void {
    if (!this.#data) return;
    const { layers } = this.#data;
    const style = getComputedStyle(this.#canvas);
    const ramp = (name: string) => rampTo(style.getPropertyValue('--cell'), style.getPropertyValue(name));
    const ramps = { up: ramp('--positive'), down: ramp('--negative') };
    this.#paintLayers(this.#image, this.#small, 0, layers, ramps);
    if (this.#open !== null && this.#open < layers)
      this.#paintLayers(this.#opened, this.#large, this.#open, this.#open + 1, ramps);
    this.#draw();
  }

  #paintLayers(
    canvas: HTMLCanvasElement,
    { columns, lines }: Cells,
    from: number,
    to: number,
    ramps: { up: Uint32Array; down: Uint32Array },
  ): void {
    const { width, values, scale } = this.#data!;
    canvas.width = columns;
    canvas.height = (to - from) * lines;
    const context = canvas.getContext('2d')!;
    const image = context.createImageData(canvas.width, canvas.height);
    const pixels = new Uint32Array(image.data.buffer);
    for (let layer = from; layer < to; layer++) {
      for (let place = 0; place < width; place++) {
        const value = values[layer * width + this.#neuron(layer, place)]!;
        const colour = Math.round(255 * strength(value, scale));
        pixels[(layer - from) * lines * columns + place] = (value < 0 ? ramps.down : ramps.up)[colour]!;
      }
    }
    context.putImageData(image, 0, 0);
  }

  #draw(): void {
    cancelAnimationFrame(this.#frameNumber);
    this.#frameNumber = requestAnimationFrame(() => this.#drawNow());
  }

  #drawNow(): void {
    const context = this.#context;
    if (!this.#data) {
      context.setTransform(1, 0, 0, 1, 0, 0);
      context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
      return;
    }
    const { layers } = this.#data;
    const style = getComputedStyle(this.#canvas);
    const colour = (name: string) => style.getPropertyValue(name);
    const scrolled = this.#frame.scrollTop;
    const seen = this.#canvas.height / devicePixelRatio;
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    context.translate(0, -scrolled);
    context.imageSmoothingEnabled = false;
    const font = `${Math.round(FONT * rem())}px ${style.fontFamily}`;
    context.textBaseline = 'middle';
    const most = Math.max(...this.#sums.map(({ up, down }) => up - down)) || 1;
    for (let layer = 0; layer < layers; layer++) {
      const cells = this.#cellsOf(layer);
      const top = this.#topOf(layer);
      const tall = cells.lines * cells.high;
      if (top + tall < scrolled || top > scrolled + seen) continue;
      const open = layer === this.#open;
      const image = open ? this.#opened : this.#image;
      const line = open ? 0 : layer * cells.lines;
      context.drawImage(
        image,
        0,
        line,
        cells.columns,
        cells.lines,
        this.#left,
        top,
        cells.columns * cells.wide,
        tall,
      );
      const named = open || layer === this.#pointed;
      context.fillStyle = colour(named ? '--ink' : '--muted');
      context.font = `${named ? 650 : 500} ${font}`;
      // Of thin bands every fourth is named, and those that an open or pointed one would cover are not.
      const other = [this.#open, this.#pointed].some(
        (at) => at !== null && at !== layer && Math.abs(at - layer) < 2,
      );
      if (tall + this.#gap >= rem() || named || (layer % 4 === 0 && !other))
        context.fillText(`L${layer}`, 0, Math.max(top, Math.min(top + tall / 2, scrolled + seen)));
      const { up, down } = this.#sums[layer]!;
      const thick = Math.max(1, Math.min(tall, 10));
      const at = top + (tall - thick) / 2;
      const long = (sum: number) => (Math.abs(sum) / most) * this.#barLong;
      context.fillStyle = colour('--positive');
      context.fillRect(this.#barLeft, at, long(up), thick);
      context.fillStyle = colour('--negative');
      context.fillRect(this.#barLeft + long(up), at, long(down), thick);
    }
    const ink = colour('--ink');
    for (const neuron of this.#marked) this.#ring(neuron, ink, 1.5, 0);
    if (this.#selected) this.#ring(this.#selected, ink, 2, 1.5);
    if (this.#cursor) this.#ring(this.#cursor, colour('--focus'), 2, 1.5);
  }

  #ring(neuron: NeuronId, colour: string, thickness: number, outside: number): void {
    const { wide, high } = this.#cellsOf(neuron.layer);
    const { x, y } = this.#cornerOf(neuron);
    const grow = outside + Math.max(0, (8 - Math.min(wide, high)) / 2);
    this.#context.strokeStyle = colour;
    this.#context.lineWidth = thickness;
    this.#context.strokeRect(x - grow, y - grow, wide + 2 * grow, high + 2 * grow);
  }

  #cellsOf = (layer: number): Cells => (layer === this.#open ? this.#large : this.#small);

  /** Where a layer begins, in the whole map; of the layer after the last, where that would. */
  #topOf(layer: number): number {
    const { lines, high } = this.#small;
    const extra =
      this.#open !== null && this.#open < layer ? this.#large.lines * this.#large.high - lines * high : 0;
    return 2 + layer * (lines * high + this.#gap) + extra;
  }

  #cornerOf(neuron: NeuronId): { x: number; y: number } {
    const { wide, high, columns } = this.#cellsOf(neuron.layer);
    const place = this.#place(neuron);
    return {
      x: this.#left + (place % columns) * wide,
      y: this.#topOf(neuron.layer) + Math.floor(place / columns) * high,
    };
  }

  /** Scrolls as little as shows it. */
  #reveal(neuron: NeuronId): void {
    if (!this.#data || neuron.layer >= this.#data.layers) return;
    const { y } = this.#cornerOf(neuron);
    const { high } = this.#cellsOf(neuron.layer);
    const air = 12;
    const { scrollTop, clientHeight } = this.#frame;
    if (y - air < scrollTop) this.#frame.scrollTop = y - air;
    else if (y + high + air > scrollTop + clientHeight) this.#frame.scrollTop = y + high + air - clientHeight;
  }

  #positionOf(event: MouseEvent): { x: number; y: number; layer: number } {
    const box = this.#canvas.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top + this.#frame.scrollTop;
    let layer = 0;
    while (layer + 1 < this.#data!.layers && this.#topOf(layer + 1) <= y) layer++;
    return { x, y, layer };
  }

  #at(event: MouseEvent): NeuronId | null {
    if (!this.#data) return null;
    const { x, y, layer } = this.#positionOf(event);
    const { wide, high, columns, lines } = this.#cellsOf(layer);
    const column = Math.floor((x - this.#left) / wide);
    const line = Math.floor((y - this.#topOf(layer)) / high);
    const place = line * columns + column;
    const inside = column >= 0 && column < columns && line >= 0 && line < lines && place < this.#data.width;
    return inside ? { layer, index: this.#neuron(layer, place) } : null;
  }

  /** The layer at whose name or bar something happens. */
  #layerBeside(event: MouseEvent): number | null {
    if (!this.#data) return null;
    const { x, layer } = this.#positionOf(event);
    return x < this.#left || x >= this.#barLeft - 4 ? layer : null;
  }

  #point(event: PointerEvent | null): void {
    const neuron = event && this.#at(event);
    const layer = event && !neuron ? this.#layerBeside(event) : null;
    this.#canvas.style.cursor = layer === null ? '' : 'pointer';
    const changed = layer !== this.#pointed;
    this.#pointed = layer;
    this.#moveTo(neuron, false);
    if (!changed) return;
    this.#tooltip.hidden = !neuron && layer === null;
    if (layer !== null && this.#data) {
      this.#tooltip.textContent = `${this.sumOf(layer)}, click ${layer === this.#open ? 'closes' : 'opens'} it`;
      const below = this.#topOf(layer) + this.#cellsOf(layer).lines * this.#cellsOf(layer).high;
      this.#tipAt(event!.offsetX < this.#left ? 0 : this.#barLeft, this.#topOf(layer), below);
    }
    this.#draw();
  }

  /** What the layer's bar shows, in words. */
  sumOf(layer: number): string {
    const { up, down } = this.#sums[layer]!;
    return `L${layer}  sum of |${this.#data!.quantity}| ${figure(up - down)}: ${signed(up)} and ${figure(down)}`;
  }

  #moveTo(neuron: NeuronId | null, byKey: boolean): void {
    if (sameNeuron(neuron, this.#cursor)) return;
    this.#cursor = neuron;
    this.#tooltip.hidden = !neuron;
    if (neuron && this.#data) {
      const flat = neuron.layer * this.#data.width + neuron.index;
      const { activation, neurgrad } = this.#data;
      const text = `activation ${figure(activation[flat]!)}, NeurGrad ${signed(neurgrad[flat]!)}`;
      this.#tooltip.textContent = `${nameOf(neuron)}  ${text}`;
      if (byKey) {
        this.#spoken.textContent = `${nameOf(neuron)}: ${text}`;
        this.#reveal(neuron);
      }
      const { x, y } = this.#cornerOf(neuron);
      this.#tipAt(x - 20, y, y + this.#cellsOf(neuron.layer).high);
    }
    this.#draw();
  }

  /** The tooltip below something, or above it where there is no room. */
  #tipAt(x: number, above: number, below: number): void {
    const { clientWidth, clientHeight, scrollTop } = this.#frame;
    const { offsetWidth, offsetHeight } = this.#tooltip;
    const fits = below + 8 + offsetHeight <= scrollTop + clientHeight;
    const top = fits ? below + 8 : Math.max(scrollTop, above - 8 - offsetHeight);
    this.#tooltip.style.left = `${Math.max(0, Math.min(x, clientWidth - offsetWidth))}px`;
    this.#tooltip.style.top = `${top}px`;
  }

  #key(event: KeyboardEvent): void {
    if (!this.#data || event.ctrlKey || event.metaKey || event.altKey) return;
    const { layers, width } = this.#data;
    const at = this.#cursor ?? this.#selected ?? { layer: 0, index: this.#neuron(0, 0) };
    const { layer } = at;
    const { columns } = this.#cellsOf(layer);
    const place = this.#place(at);
    const flat = layer * width + place;
    const put = (inLayer: number, where: number): NeuronId => ({
      layer: inLayer,
      index: this.#neuron(inLayer, where),
    });
    const to = (next: number): NeuronId => {
      const kept = Math.max(0, Math.min(layers * width - 1, next));
      return put(Math.floor(kept / width), kept % width);
    };
    const moves: Record<string, () => NeuronId> = {
      ArrowLeft: () => to(flat - 1),
      ArrowRight: () => to(flat + 1),
      ArrowUp: () => to(flat - columns),
      ArrowDown: () => to(flat + columns),
      Home: () => put(layer, 0),
      End: () => put(layer, width - 1),
      PageUp: () => put(Math.max(0, layer - 1), place),
      PageDown: () => put(Math.min(layers - 1, layer + 1), place),
    };
    const move = moves[event.key];
    if (move) this.#moveTo(move(), true);
    else if (event.key === 'Enter' || event.key === ' ') this.#events.onSelect(at);
    else if (event.key === 'o' || event.key === 'O') this.#events.onLayer(layer);
    else if (event.key === '+' || event.key === '=') this.zoom(1);
    else if (event.key === '-') this.zoom(-1);
    else return;
    event.preventDefault();
  }
}

/** 256 colours from one to another, as the little-endian words of an ImageData. */
function rampTo(from: string, to: string): Uint32Array {
  const a = channels(from);
  const b = channels(to);
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const [red, green, blue] = a.map((value, k) => Math.round(value + ((b[k]! - value) * i) / 255)) as [
      number,
      number,
      number,
    ];
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}

/** Any CSS colour as red, green and blue. */
function channels(colour: string): number[] {
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = 1;
  const context = canvas.getContext('2d')!;
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}
