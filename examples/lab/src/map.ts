/**
 * The map: one cell a neuron, layers as bands from top to bottom, a band broken into as many lines as give the largest
 * cells. Values become an image of one pixel a cell once; every frame only scales that image and draws a few rings, so
 * hundreds of thousands of cells cost no more than a few.
 *
 * Keys: arrows move, Home and End go to the ends of a layer, Page Up and Down to the next layer, Enter selects.
 */

import { figure, signed } from './format.ts';
import { type NeuronId, nameOf, sameNeuron } from './state.ts';

export interface MapData {
  readonly layers: number;
  readonly width: number;
  /** layer * width + index. */
  readonly values: Float32Array | Float64Array;
  readonly activation: Float32Array;
  readonly neurgrad: Float64Array;
}

interface Layout {
  /** CSS pixels of one cell. */
  readonly wide: number;
  readonly high: number;
  readonly columns: number;
  /** Lines of one layer. */
  readonly lines: number;
  readonly gap: number;
}

/** How much of its colour a value has, 0 to 1: the square root of its share of the largest, so that small ones show too. */
export function strength(value: number, largest: number): number {
  return largest === 0 ? 0 : Math.sqrt(Math.abs(value) / largest);
}

/** The colour bar: values run evenly along it, from the most negative to the largest, in the map's own colours. */
export function colourBar(): string {
  const steps = [1, 0.75, 0.5, 0.25, 0.125];
  const stop = (name: string, value: number) =>
    `color-mix(in srgb, var(${name}) ${(100 * strength(value, 1)).toFixed(1)}%, var(--cell)) ${(50 + 50 * value).toFixed(2)}%`;
  const values = steps.map((share) => share ** 2);
  return `linear-gradient(90deg, ${[
    ...values.map((value) => stop('--negative', -value)),
    'var(--cell) 50%',
    ...values.toReversed().map((value) => stop('--positive', value)),
  ].join(', ')})`;
}

/** Room for the layers' names, largest cell and size of their font, in the page's own unit. */
const GUTTER = 2;
const LARGEST = 1.75;
const FONT = 0.72;

/** CSS pixels of the page's unit, which grows with the window. */
const rem = (): number => Number.parseFloat(getComputedStyle(document.documentElement).fontSize);

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
): Layout {
  const gap = layers > 16 ? 2 : 6;
  const band = height / layers - gap;
  const fallback = Math.max(1, Math.floor(width / 2));
  let best: Layout = { wide: 2, high: 2, columns: fallback, lines: Math.ceil(neurons / fallback), gap };
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

export class NeuronMap {
  readonly #canvas: HTMLCanvasElement;
  readonly #context: CanvasRenderingContext2D;
  readonly #image = document.createElement('canvas');
  readonly #tooltip: HTMLElement;
  readonly #spoken: HTMLElement;
  readonly #onSelect: (neuron: NeuronId) => void;
  #data: MapData | null = null;
  #layout: Layout = { wide: 1, high: 1, columns: 1, lines: 1, gap: 0 };
  #cursor: NeuronId | null = null;
  #selected: NeuronId | null = null;
  #marked: readonly NeuronId[] = [];
  #frame = 0;
  /** Where the cells begin, in CSS pixels. */
  #left = 0;

  constructor(
    host: { frame: HTMLElement; tooltip: HTMLElement; spoken: HTMLElement },
    onSelect: (neuron: NeuronId) => void,
  ) {
    const { frame } = host;
    frame.tabIndex = 0;
    const canvas = frame.querySelector('canvas')!;
    this.#canvas = canvas;
    this.#context = canvas.getContext('2d')!;
    this.#tooltip = host.tooltip;
    this.#spoken = host.spoken;
    this.#onSelect = onSelect;
    canvas.addEventListener('pointermove', (event) => this.#moveTo(this.#at(event), false));
    canvas.addEventListener('pointerleave', () => this.#moveTo(null, false));
    // A click's own position is rounded to whole pixels, where a pointer's is not: at an edge it would take another
    // neuron than the one that is named.
    let released: NeuronId | null = null;
    canvas.addEventListener('pointerup', (event) => {
      released = this.#at(event);
    });
    canvas.addEventListener('click', () => this.#select(released));
    frame.addEventListener('keydown', (event) => this.#key(event));
    frame.addEventListener('blur', () => this.#moveTo(null, false));
    new ResizeObserver(() => this.#resize()).observe(frame);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#paint());
  }

  show(data: MapData): void {
    const first = this.#data?.layers !== data.layers || this.#data.width !== data.width;
    this.#data = data;
    if (first) this.#resize();
    this.#paint();
  }

  mark(selected: NeuronId | null, marked: readonly NeuronId[]): void {
    this.#selected = selected;
    this.#marked = marked;
    this.#draw();
  }

  /** The map as it is on the page. */
  toBlob(): Promise<Blob> {
    return new Promise((resolve) => this.#canvas.toBlob((blob) => resolve(blob!), 'image/png'));
  }

  #resize(): void {
    if (!this.#data) return;
    const { layers, width } = this.#data;
    const room = this.#canvas.parentElement!.clientWidth;
    // Very many neurons get more of the window: cells must be large enough to be pointed at.
    const share = layers * width > 10_000 ? 0.62 : 0.4;
    const height = Math.max(200, Math.min(innerHeight * share, 1.1 * room));
    const unit = rem();
    this.#left = Math.round(GUTTER * unit);
    this.#layout = layOut(layers, width, room - this.#left, height, Math.round(LARGEST * unit));
    const { wide, high, columns, lines, gap } = this.#layout;
    const ratio = devicePixelRatio;
    const size = { width: this.#left + columns * wide + 2, height: layers * (lines * high + gap) - gap + 4 };
    this.#canvas.style.width = `${size.width}px`;
    this.#canvas.style.height = `${size.height}px`;
    this.#canvas.width = Math.round(size.width * ratio);
    this.#canvas.height = Math.round(size.height * ratio);
    this.#paint();
  }

  /** Values to pixels. */
  #paint(): void {
    if (!this.#data) return;
    const { layers, width, values } = this.#data;
    const { columns, lines } = this.#layout;
    const style = getComputedStyle(this.#canvas);
    const ramp = (name: string) => rampTo(style.getPropertyValue('--cell'), style.getPropertyValue(name));
    const ramps = { up: ramp('--positive'), down: ramp('--negative') };
    let most = 0;
    for (const value of values) most = Math.max(most, Math.abs(value));
    this.#image.width = columns;
    this.#image.height = layers * lines;
    const context = this.#image.getContext('2d')!;
    const image = context.createImageData(columns, layers * lines);
    const pixels = new Uint32Array(image.data.buffer);
    for (let layer = 0; layer < layers; layer++) {
      for (let index = 0; index < width; index++) {
        const value = values[layer * width + index]!;
        const colour = Math.round(255 * strength(value, most));
        pixels[layer * lines * columns + index] = (value < 0 ? ramps.down : ramps.up)[colour]!;
      }
    }
    context.putImageData(image, 0, 0);
    this.#draw();
  }

  #draw(): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#drawNow());
  }

  #drawNow(): void {
    if (!this.#data) return;
    const context = this.#context;
    const { layers } = this.#data;
    const { wide, high, columns, lines, gap } = this.#layout;
    const style = getComputedStyle(this.#canvas);
    const ink = style.getPropertyValue('--ink');
    context.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    context.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    context.imageSmoothingEnabled = false;
    context.font = `500 ${Math.round(FONT * rem())}px ${style.fontFamily}`;
    context.textBaseline = 'middle';
    context.fillStyle = style.getPropertyValue('--muted');
    for (let layer = 0; layer < layers; layer++) {
      const top = 2 + layer * (lines * high + gap);
      const tall = lines * high;
      context.drawImage(this.#image, 0, layer * lines, columns, lines, this.#left, top, columns * wide, tall);
      if (tall + gap >= rem() || layer % 4 === 0) context.fillText(`L${layer}`, 0, top + tall / 2);
    }
    for (const neuron of this.#marked) this.#ring(neuron, ink, 1.5, 0);
    if (this.#selected) this.#ring(this.#selected, ink, 2, 1.5);
    if (this.#cursor) this.#ring(this.#cursor, style.getPropertyValue('--focus'), 2, 1.5);
  }

  #ring(neuron: NeuronId, colour: string, thickness: number, outside: number): void {
    const { wide, high } = this.#layout;
    const { x, y } = this.#cornerOf(neuron);
    const grow = outside + Math.max(0, (8 - Math.min(wide, high)) / 2);
    this.#context.strokeStyle = colour;
    this.#context.lineWidth = thickness;
    this.#context.strokeRect(x - grow, y - grow, wide + 2 * grow, high + 2 * grow);
  }

  #cornerOf({ layer, index }: NeuronId): { x: number; y: number } {
    const { wide, high, columns, lines, gap } = this.#layout;
    return {
      x: this.#left + (index % columns) * wide,
      y: 2 + layer * (lines * high + gap) + Math.floor(index / columns) * high,
    };
  }

  #at(event: MouseEvent): NeuronId | null {
    if (!this.#data) return null;
    const { wide, high, columns, lines, gap } = this.#layout;
    const box = this.#canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - this.#left) / wide);
    const y = event.clientY - box.top - 2;
    const layer = Math.floor(y / (lines * high + gap));
    const line = Math.floor((y - layer * (lines * high + gap)) / high);
    const index = line * columns + column;
    const inside = column >= 0 && column < columns && y >= 0 && line < lines;
    return inside && layer < this.#data.layers && index < this.#data.width ? { layer, index } : null;
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
      if (byKey) this.#spoken.textContent = `${nameOf(neuron)}: ${text}`;
      this.#place(neuron);
    }
    this.#draw();
  }

  #place(neuron: NeuronId): void {
    const { x, y } = this.#cornerOf(neuron);
    const room = this.#canvas.parentElement!.clientWidth - this.#tooltip.offsetWidth;
    this.#tooltip.style.left = `${Math.max(0, Math.min(x - 20, room))}px`;
    this.#tooltip.style.top = `${y + this.#layout.high + 8}px`;
  }

  #select(neuron: NeuronId | null): void {
    if (neuron) this.#onSelect(neuron);
  }

  #key(event: KeyboardEvent): void {
    if (!this.#data) return;
    const { layers, width } = this.#data;
    const { columns } = this.#layout;
    const { layer, index } = this.#cursor ?? this.#selected ?? { layer: 0, index: 0 };
    const flat = layer * width + index;
    const to = (next: number): NeuronId => {
      const kept = Math.max(0, Math.min(layers * width - 1, next));
      return { layer: Math.floor(kept / width), index: kept % width };
    };
    const moves: Record<string, () => NeuronId> = {
      ArrowLeft: () => to(flat - 1),
      ArrowRight: () => to(flat + 1),
      ArrowUp: () => to(flat - columns),
      ArrowDown: () => to(flat + columns),
      Home: () => ({ layer, index: 0 }),
      End: () => ({ layer, index: width - 1 }),
      PageUp: () => ({ layer: Math.max(0, layer - 1), index }),
      PageDown: () => ({ layer: Math.min(layers - 1, layer + 1), index }),
    };
    const move = moves[event.key];
    if (move) this.#moveTo(move(), true);
    else if (event.key === 'Enter' || event.key === ' ') this.#select({ layer, index });
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
