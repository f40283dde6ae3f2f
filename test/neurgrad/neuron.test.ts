import { describe, expect, it } from 'vitest';
import {
  flatIndex,
  formatNeuron,
  type NeuronSpace,
  neuronAt,
  parseNeuron,
  parseNeurons,
  resolveSite,
  siteHook,
} from '../../neurgrad/neuron.ts';

const bert: NeuronSpace = {
  family: 'bert',
  sites: ['pre', 'post'],
  paperSite: 'post',
  sizes: { layers: 24, width: 4096 },
};
const llama: NeuronSpace = {
  family: 'llama',
  sites: ['pre', 'pre_linear', 'act', 'post'],
  paperSite: 'pre_linear',
  sizes: { layers: 2, width: 80 },
};

describe('parseNeuron', () => {
  it('reads the paper’s site by default, another with @', () => {
    expect(parseNeuron('L20.N3781', bert)).toEqual({ layer: 20, index: 3781, site: 'post' });
    expect(parseNeuron('L1.N7', llama)).toEqual({ layer: 1, index: 7, site: 'pre_linear' });
    expect(parseNeuron(' L1.N7@act ', llama)).toEqual({ layer: 1, index: 7, site: 'act' });
    expect(parseNeuron('L1.N7@hook_pre', llama).site).toBe('pre');
    expect(parseNeuron('L1.N7', llama, 'post').site).toBe('post');
  });
  it.each([
    ['L24.N0', 'L24.N0: the model has layers L0 to L23'],
    ['L0.N4096', 'L0.N4096: a layer has neurons N0 to N4095'],
    ['L0.N1@act', 'unknown site "act" for a bert model; it has paper, pre, post'],
    ['L-1.N0', 'is not a neuron'],
    ['20.3781', 'is not a neuron'],
    ['L0.N1.5', 'is not a neuron'],
    ['', 'is not a neuron'],
  ])('refuses %s', (text, message) => {
    expect(() => parseNeuron(text, bert)).toThrow(message);
  });
  it('reads lists and refuses repetitions', () => {
    expect(parseNeurons('L0.N3, L1.N7', bert)).toHaveLength(2);
    expect(() => parseNeurons('L0.N3,L0.N3@post', bert)).toThrow('L0.N3@post is named twice');
    expect(() => parseNeurons(' , ', bert)).toThrow('no neurons given');
  });
});

describe('names', () => {
  it('come back as they were read', () => {
    const neuron = parseNeuron('L20.N3781@pre', bert);
    expect(formatNeuron(neuron)).toBe('L20.N3781@pre');
    expect(formatNeuron(neuron, 'pre')).toBe('L20.N3781');
    expect(siteHook(20, 'pre_linear')).toBe('blocks.20.mlp.hook_pre_linear');
    expect(resolveSite('paper', llama)).toBe('pre_linear');
  });
  it('run layer by layer as flat numbers', () => {
    const flat = flatIndex({ layer: 3, index: 5 }, 80);
    expect(flat).toBe(245);
    expect(neuronAt(flat, 80, 'post')).toEqual({ layer: 3, index: 5, site: 'post' });
  });
});
