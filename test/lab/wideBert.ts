/** A BERT with as many neurons as BERT-base (12 layers of 3,072) and almost no hidden size, for the map's speed. */

import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parametersOf, parseConfig, writeSafetensors } from '../../models/index.ts';
import { seededRandom } from '../../neurgrad/index.ts';

export async function writeWideBert(folder: string, bundled: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json'])
    copyFileSync(join(bundled, name), join(folder, name));
  const json = {
    ...(JSON.parse(readFileSync(join(bundled, 'config.json'), 'utf8')) as Record<string, unknown>),
    hidden_size: 16,
    num_hidden_layers: 12,
    num_attention_heads: 2,
    intermediate_size: 3072,
  };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(json));
  const random = seededRandom(1);
  const tensors = parametersOf(parseConfig(json).description).map(({ name, shape }) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const data = Float32Array.from({ length: size }, () => (random() - 0.5) * 0.4);
    return { name, shape, dtype: 'F32' as const, data };
  });
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
}
