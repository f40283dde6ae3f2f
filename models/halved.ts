/**
 * The working copy of mixed-precision training (Micikevicius et al. 2018): a model computes with matrices in f16, while updates
 * go to the f32 matrices that they are rounded from.
 */

import { UserError } from '../engine/errors.ts';
import { convert, noGrad } from '../engine/index.ts';
import type { LanguageModel } from './model.ts';
import { Transformer } from './transformer.ts';

/**
 * A model whose matrices are those of `model` rounded to f16 and whose vectors are its own; to be disposed of by itself.
 * @throws UserError for a model whose weights are not on the device.
 * @example
 * ```ts
 * import { loadModel } from 'neurgrad';
 * import { halved } from 'neurgrad/models';
 *
 * const { model } = await loadModel('examples/models/stories260k');
 * const working = halved(model);
 * console.log(working.parameters.get('model.layers.0.mlp.up_proj.weight')!.dtype); // → f16
 * console.log(working.parameters.get('model.norm.weight')!.dtype); // → f32
 * working.dispose();
 * model.device.destroy();
 * ```
 */
export function halved(model: LanguageModel): Transformer {
  if (!(model instanceof Transformer))
    throw new UserError('training', 'only a model whose weights are on the device has a copy in f16');
  // Parameters of their own, not functions of the model's.
  const weights = noGrad(
    () =>
      new Map([...model.parameters].map(([name, t]) => [name, t.rank > 1 ? convert(t, 'f16') : t.detach()])),
  );
  return new Transformer(model.device, model.config, weights);
}
