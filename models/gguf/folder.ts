/**
 * A GGUF file as the Hugging Face folder that it was made of: `config.json`, `tokenizer.json`, `generation_config.json` and a
 * `model.safetensors` that is unpacked while it is read (tensors.ts). All that reads models reads it.
 */

import { sizeOf } from '../../engine/index.ts';
import { callback, checkValue, show } from '../../engine/options.ts';
import { type ByteFolder, type ByteSource, folderOf, memorySource } from '../byteSource.ts';
import { parseConfig } from '../config.ts';
import { configOf, storedOf } from './architectures.ts';
import { unpackBlocks } from './blocks.ts';
import { readGgufHeader } from './header.ts';
import { llama3Scaling } from './llama3Scaling.ts';
import { Metadata } from './metadata.ts';
import { tensorFile } from './tensors.ts';
import { tokenizerOf } from './tokenizerOf.ts';

const openField = callback<() => Promise<ByteSource>>();

/**
 * @param open the file, once for each reader of its tensors; the header is read at once.
 * @throws UserError `gguf` naming key or tensor, for a file that is none or holds what is not supported.
 */
export async function ggufFolder(open: () => Promise<ByteSource>): Promise<ByteFolder> {
  checkValue('ggufFolder', 'open', openField, open);
  const source = await open();
  try {
    const header = await readGgufHeader(source);
    const of = new Metadata(source.name, header);
    if ((header.metadata.get('split.count') ?? 1) !== 1)
      throw of.fail(
        `is one of ${show(header.metadata.get('split.count'))} parts; join them with llama-gguf-split --merge`,
      );
    const config = configOf(of);
    const frequencies = header.tensors.get('rope_freqs.weight');
    if (frequencies) {
      const factors = new Float32Array(sizeOf(frequencies.shape));
      unpackBlocks(frequencies.format, await source.read(frequencies.begin, frequencies.end), factors);
      const scaling = llama3Scaling(factors, config.rope_theta as number);
      if (!scaling)
        throw of.fail('its rope_freqs.weight are not those of Llama 3, and no others are computed here');
      config.rope_scaling = scaling;
    }
    const { tokenizer, config: special } = tokenizerOf(of);
    const files = new Map<string, unknown>([
      ['config.json', config],
      ['tokenizer.json', tokenizer],
      ['tokenizer_config.json', special],
      ['generation_config.json', { eos_token_id: endsOf(of) }],
    ]);
    const { name } = source;
    const stored = storedOf(of, parseConfig(config, name).description);
    return folderOf(name, {
      has: async (file) => file === 'model.safetensors' || files.has(file),
      async open(file) {
        if (file === 'model.safetensors')
          return tensorFile(name, await open(), header.tensors.values(), stored);
        if (!files.has(file)) throw of.fail(`holds no ${file}`);
        return memorySource(`${name}: ${file}`, new TextEncoder().encode(JSON.stringify(files.get(file))));
      },
    });
  } finally {
    await source.close();
  }
}

/** Tokens that end a text. */
function endsOf(of: Metadata): number[] {
  return [...new Set(['eos', 'eot', 'eom'].flatMap((name) => of.tokenId(name) ?? []))];
}
