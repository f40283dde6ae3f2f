/**
 * Path patching (Wang et al. 2022; Goldowsky-Dill et al. 2023): what a sender does by way of a receiver alone.
 *
 * 1. The base prompt runs with the sender's value of the source prompt, the values of all later heads (and, `mlps: 'frozen'`, feed-forward
 *    parts) set to what they are in the base run: sums and norms of the stream are computed, and feed-forward parts where they are not frozen.
 * 2. To `logits`: the metric of that run. To a receiver: the value it has there, before it would be frozen itself, is put into the base run, and
 *    everything after it computed.
 */

import { UserError } from '../../engine/errors.ts';
import { broadcastTo, noGrad, scope, type Tensor } from '../../engine/index.ts';
import {
  checkOptions,
  either,
  like,
  list,
  one,
  optionsSchema,
  required,
  whole,
} from '../../engine/options.ts';
import { disown } from '../../engine/scope.ts';
import { hooksOf } from '../../models/description.ts';
import { pointOf } from '../../models/hooks.ts';
import { type LanguageModel, type Patch, runModel } from '../../models/model.ts';
import { changesOf } from '../../models/patches.ts';
import { type Probe, probeRows } from '../predict.ts';
import { type ContrastOptions, contrastFields } from './activationPatching.ts';
import { Downstream } from './downstream.ts';
import { type MetricValues, metricRows, metricsOf, metricValues } from './metric.ts';
import { firstDifference, type PromptPair, pairList } from './pairs.ts';
import { computesDownstream, type RunsOptions, runsFields } from './patchedRuns.ts';
import { componentHook, hookNames, layersOf } from './places.ts';
import { type ExperimentTable, ends, type PairResult, type PlaceKeys, tableOf } from './table.ts';

/** A head of a layer, a neuron of its feed-forward part, or, with neither, the whole part; at all positions. */
export interface Sender {
  readonly layer: number;
  readonly head?: number;
  readonly neuron?: number;
}

/** What receivers are: q, k or v of a head, or what a feed-forward part reads (`mlp`: gate and up together) or has. */
export const RECEIVERS = ['q', 'k', 'v', 'mlp', 'pre', 'pre_linear', 'act', 'post'] as const;

/** A value of a layer, of a head or some (k, v: key/value heads), or a neuron, or all of it; at all positions. */
export interface Receiver {
  readonly component: (typeof RECEIVERS)[number];
  readonly layer: number;
  readonly head?: number | readonly number[];
  readonly neuron?: number | readonly number[];
}

/** From where to where, and how. */
export interface PathPatchingOptions extends ContrastOptions, RunsOptions {
  /** One, several, each by itself, or all `heads` (default) or `mlps`. */
  readonly sender?: Sender | readonly Sender[] | 'heads' | 'mlps';
  /** Default `logits`; several receive together. */
  readonly receiver?: Receiver | readonly Receiver[] | 'logits';
  /** Whether feed-forward parts between are `frozen` (default) or `recomputed` from what reaches them. */
  readonly mlps?: 'frozen' | 'recomputed';
}

const natural = whole();
const numbers = either(natural, list(natural, 'a list of numbers'), 'a number or a list of them');
const sender = optionsSchema<Sender>({ layer: required(natural), head: natural, neuron: natural });
const receiver = optionsSchema<Receiver>({
  component: required(one(RECEIVERS)),
  layer: required(natural),
  head: numbers,
  neuron: numbers,
});
const isPlain = (value: unknown): boolean => typeof value === 'object' && value !== null;
const senderField = like<NonNullable<PathPatchingOptions['sender']>>(
  (value) =>
    value === 'heads' ||
    value === 'mlps' ||
    (isPlain(value) && 'layer' in (value as object)) ||
    (Array.isArray(value) && value.every(isPlain)),
  "{ layer, head } or such, a list of them, 'heads' or 'mlps'",
);
const receiverField = like<NonNullable<PathPatchingOptions['receiver']>>(
  (value) =>
    value === 'logits' ||
    (isPlain(value) && 'layer' in (value as object)) ||
    (Array.isArray(value) && value.every(isPlain)),
  "{ component, layer, head } or such, a list of them, or 'logits'",
);
/** {@link PathPatchingOptions} */
export const pathPatchingOptions = optionsSchema<PathPatchingOptions>(
  {
    ...contrastFields,
    ...runsFields,
    sender: senderField,
    receiver: receiverField,
    mlps: one(['frozen', 'recomputed']),
  },
  { senders: 'sender', receivers: 'receiver', from: 'sender', to: 'receiver', freezeMlps: 'mlps' },
);

/** A sender as a place. */
interface Origin extends PlaceKeys {
  readonly layer: number;
  readonly hook: string;
}

/** A value, or a part of it. */
interface Part {
  readonly hook: string;
  readonly head?: Patch['head'] | null;
  readonly neuron?: Patch['neuron'] | null;
}

/** A value put into the base run. */
type Target = Pick<Patch, 'head' | 'neuron'> & { readonly hook: string; readonly layer: number };

/**
 * One row for each sender: the metric when the sender's value of the other prompt reaches the receiver, and nothing else of it.
 * @throws UserError for an option or value that there is not, and prompts that are not of equal length.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, pathPatching } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const [clean, corrupt] = ['Japan', 'Egypt'].map((country) =>
 *   encodePrompt(model, tokenizer, `The capital of ${country} is [MASK].`),
 * );
 * const pair = { clean: clean!, corrupt: corrupt!, answer: tokenizer.idOf('tokyo')! };
 * const receiver = { component: 'v', layer: 3, head: 1 } as const;
 * const { rows } = await pathPatching(model, pair, { sender: { layer: 2, head: 0 }, receiver, metric: 'logprob' });
 * console.log(rows.length, rows[0]!.layer, rows[0]!.head); // → 1 2 0
 * model.device.destroy();
 * ```
 */
export async function pathPatching(
  model: LanguageModel,
  pairs: PromptPair | readonly PromptPair[],
  options: PathPatchingOptions = {},
): Promise<ExperimentTable> {
  checkOptions('pathPatching', pathPatchingOptions, options);
  const prompts = pairList('pathPatching', model, pairs);
  const { direction = 'denoise', mlps = 'frozen', engine } = options;
  const metrics = metricsOf(options.metric, prompts);
  const origins = originsOf(model, options.sender ?? 'heads');
  const targets = targetsOf(model, options.receiver ?? 'logits');
  const results: PairResult[] = [];
  for (const pair of prompts) {
    const [base, source] = direction === 'denoise' ? [pair.corrupt, pair.clean] : [pair.clean, pair.corrupt];
    if (computesDownstream(model, engine)) {
      const first = firstDifference(pair);
      const sent = origins.map(({ hook }) => hook);
      const kept = [
        ...sent,
        ...targets.map(({ hook }) => hook),
        ...origins.flatMap((each) => frozenBehind(model, each, mlps)),
      ];
      using own = Downstream.open(model, base, first, kept);
      using others = Downstream.open(model, source, first, sent);
      const plain = metricValues(await own.logits.read(), pair);
      const values = await throughDownstream(own, others, pair, origins, targets, mlps, options, plain);
      const given = metricValues(await others.logits.read(), pair);
      results.push({ ...ends(direction, plain, given), base: plain, values });
    } else
      results.push(
        await throughWholeRuns(model, [base, source], pair, origins, targets, {
          ...options,
          direction,
          mlps,
        }),
      );
  }
  const to =
    targets.length === 0
      ? 'logits'
      : targets.map(({ hook, head }) => (head === undefined ? hook : `${hook} ${head}`)).join(', ');
  return tableOf(
    'path_patching',
    direction,
    metrics,
    origins,
    results,
    `to ${to}; feed-forward parts ${mlps}`,
  );
}

function originsOf(model: LanguageModel, asked: NonNullable<PathPatchingOptions['sender']>): Origin[] {
  const { heads, width } = model.sizes;
  const layers = layersOf(model);
  const senders: readonly Sender[] =
    asked === 'heads'
      ? layers.flatMap((layer) => Array.from({ length: heads }, (_, head) => ({ layer, head })))
      : asked === 'mlps'
        ? layers.map((layer) => ({ layer }))
        : 'layer' in asked
          ? [asked]
          : asked;
  return senders.map((each): Origin => {
    checkOptions('pathPatching: sender', sender, each);
    const { layer, head = null, neuron = null } = each;
    layersOf(model, [layer]);
    if (head !== null && neuron !== null)
      throw new UserError('option', 'pathPatching: a sender is a head or a neuron');
    if ((head ?? 0) >= heads) throw new UserError('place', `head ${head}: there are 0 to ${heads - 1}`);
    if ((neuron ?? 0) >= width) throw new UserError('place', `neuron ${neuron}: there are 0 to ${width - 1}`);
    const component = head !== null ? 'z' : neuron !== null ? 'post' : 'mlp_out';
    return { component, layer, position: null, head, neuron, hook: componentHook(component, layer) };
  });
}

function targetsOf(model: LanguageModel, asked: NonNullable<PathPatchingOptions['receiver']>): Target[] {
  if (asked === 'logits') return [];
  const receivers: readonly Receiver[] = 'layer' in asked ? [asked] : asked;
  return receivers.flatMap((each) => {
    checkOptions('pathPatching: receiver', receiver, each);
    const { component, layer, head, neuron } = each;
    layersOf(model, [layer]);
    const gated = model.sites.includes('pre_linear');
    const of =
      component === 'mlp' ? (gated ? (['pre', 'pre_linear'] as const) : (['pre'] as const)) : [component];
    return of.map((name) => ({
      hook: model.resolveHook(componentHook(name, layer)),
      layer,
      ...(head === undefined ? {} : { head }),
      ...(neuron === undefined ? {} : { neuron }),
    }));
  });
}

/** Names of the values that are kept as they are behind a sender. */
function frozenBehind(
  model: LanguageModel,
  { layer, head }: Origin,
  mlps: 'frozen' | 'recomputed',
): string[] {
  const from = (hook: string, first: number): string[] =>
    Array.from({ length: Math.max(0, model.sizes.layers - first) }, (_, i) => `blocks.${first + i}.${hook}`);
  const parts = mlps === 'frozen' ? from('hook_mlp_out', head === null ? layer + 1 : layer) : [];
  return [...from('attn.hook_z', layer + 1), ...parts];
}

/** A value, or a head or neuron of it, as another run has it at all tokens. */
function tokensOf(from: NonNullable<Patch['from']>, { hook, head = null, neuron = null }: Part): Patch {
  const some = { ...(head === null ? {} : { head }), ...(neuron === null ? {} : { neuron }) };
  return { name: hook, position: 'all', ...some, op: 'set', from };
}

async function throughDownstream(
  own: Downstream,
  others: Downstream,
  answers: PromptPair,
  origins: readonly Origin[],
  targets: readonly Target[],
  mlps: 'frozen' | 'recomputed',
  { rowsPerPass = own.rowsThatFit(), onProgress }: RunsOptions,
  plain: MetricValues,
): Promise<MetricValues[]> {
  const { model, tokens } = own;
  const { vocabulary } = model.sizes;
  const found: MetricValues[] = origins.map(() => plain);
  const table = hooksOf(model.description);
  /** Rows of a plain value, patched. */
  const patched = (hook: string, rows: number, patches: readonly Patch[]): Tensor => {
    const value = own.values([hook]).get(hook)!;
    const where = { first: new Array<number>(rows).fill(0) };
    const changes = changesOf(patches, pointOf(table, hook), rows, tokens, where, (name) => name);
    const made = noGrad(() =>
      scope(() => {
        const repeated = broadcastTo(value, [rows, ...value.shape.slice(1)]);
        return changes.reduce((x, change) => change(x, repeated), repeated);
      }),
    );
    disown(made);
    return made;
  };
  let done = 0;
  for (const hook of new Set(origins.map((each) => each.hook))) {
    const here = origins.flatMap((origin, i) => (origin.hook === hook ? [{ origin, i }] : []));
    const { layer } = here[0]!.origin;
    const frozen = frozenBehind(model, here[0]!.origin, mlps);
    const heard = targets.filter((target) => target.layer >= layer);
    if (targets.length > 0 && heard.length === 0) continue;
    const values = own.values([hook, ...frozen, ...targets.map((target) => target.hook)]);
    const from = { captures: others.values([hook]) };
    for (let start = 0; start < here.length; start += rowsPerPass) {
      const some = here.slice(start, start + rowsPerPass);
      const rows = some.length;
      const sent = patched(
        hook,
        rows,
        some.map(({ origin }, row) => ({ ...tokensOf(from, origin), row })),
      );
      const held: Tensor[] = [sent];
      try {
        const given = new Map([[hook, sent], ...frozen.map((name) => [name, values.get(name)!] as const)]);
        const capture = hookNames(heard);
        using first = own.run({ rows, given, capture, logits: targets.length === 0 });
        let { logits } = first;
        let second: ReturnType<Downstream['run']> | null = null;
        if (targets.length > 0) {
          const received = capture.map((name) => {
            const patches = heard
              .filter((target) => target.hook === name)
              .map((target) => tokensOf(first, target));
            const value = patched(name, rows, patches);
            held.push(value);
            return [name, value] as const;
          });
          second = own.run({ rows, given: new Map(received) });
          logits = second.logits;
        }
        try {
          const read = metricRows(await logits!.read(), vocabulary, answers);
          for (const [row, { i }] of some.entries()) found[i] = read[row]!;
        } finally {
          second?.[Symbol.dispose]();
        }
      } finally {
        for (const t of held) t.dispose();
      }
      done += rows;
      onProgress?.(done, origins.length);
    }
  }
  return found;
}

/** The same by whole runs with patches. */
async function throughWholeRuns(
  model: LanguageModel,
  [base, source]: readonly [Probe, Probe],
  answers: PromptPair,
  origins: readonly Origin[],
  targets: readonly Target[],
  { mlps = 'frozen', direction = 'denoise', rowsPerPass = 16, onProgress }: PathPatchingOptions,
): Promise<PairResult> {
  const { vocabulary } = model.sizes;
  const kept = [...new Set(origins.flatMap((origin) => [origin.hook, ...frozenBehind(model, origin, mlps)]))];
  const logits = [base.position];
  using own = await runModel(model, probeRows(base), { capture: kept, logits });
  using others = await runModel(model, probeRows(source), { capture: kept, logits });
  const values: MetricValues[] = [];
  for (let start = 0; start < origins.length; ) {
    const { layer, component } = origins[start]!;
    const alike = origins
      .slice(start, start + rowsPerPass)
      .findIndex((each) => each.layer !== layer || each.component !== component);
    const some = origins.slice(start, start + (alike < 0 ? rowsPerPass : alike));
    const rows = some.length;
    const sent = some.map((origin, row): Patch => ({ ...tokensOf(others, origin), row }));
    const frozen = frozenBehind(model, some[0]!, mlps).map((hook) => tokensOf(own, { hook }));
    const read = some.map(() => base.position);
    using first = await runModel(model, probeRows(base, rows), {
      patch: [...sent, ...frozen],
      capture: hookNames(targets),
      logits: read,
    });
    const received = targets.map((target) => tokensOf(first, target));
    using second =
      targets.length === 0
        ? null
        : await runModel(model, probeRows(base, rows), { patch: received, logits: read });
    values.push(...metricRows(await (second ?? first).logits.read(), vocabulary, answers));
    start += rows;
    onProgress?.(values.length, origins.length);
  }
  const [plain, given] = [
    metricValues(await own.logits.read(), answers),
    metricValues(await others.logits.read(), answers),
  ];
  return { ...ends(direction, plain, given), base: plain, values };
}
