/** What a model says of itself, wherever its weights are: all of it follows from its config. */

import type { Device } from '../engine/index.ts';
import type { ModelConfig } from './config.ts';
import { type Description, type HookTable, hooksOf, sitesOf } from './description.ts';
import { resolveHook } from './hooks.ts';
import type { ModelSizes, Site } from './model.ts';

/** The part of a {@link LanguageModel} that no weight is needed for. */
export abstract class DescribedModel {
  readonly device: Device;
  readonly config: ModelConfig;
  readonly family: string;
  readonly description: Description;
  readonly causal: boolean;
  readonly sizes: ModelSizes;
  readonly sites: readonly Site[];
  readonly paperSite: Site;
  readonly hooks: HookTable;

  constructor(device: Device, config: ModelConfig) {
    const { family, description } = config;
    this.device = device;
    this.config = config;
    this.family = family.type;
    this.description = description;
    this.causal = description.causal;
    this.sizes = description.sizes;
    ({ sites: this.sites, paperSite: this.paperSite } = sitesOf(description));
    this.hooks = hooksOf(description);
  }

  /** See {@link LanguageModel.hookNames}. */
  get hookNames(): readonly string[] {
    return this.hooks.names;
  }

  /** See {@link LanguageModel.resolveHook}. @throws UserError */
  resolveHook(name: string): string {
    return resolveHook(this.hooks, name);
  }
}
