/** What a suite is given and gives. */

import type { Device } from '../../engine/index.ts';
import type { Peer } from '../peers.ts';
import type { Row } from '../rows.ts';
import type { Clock } from '../timing.ts';

export interface SuiteContext {
  readonly device: Device;
  readonly peers: readonly Peer[];
  /** A Python that has what bench/peers/requirements.txt lists. */
  readonly python?: string;
  readonly rounds: number;
  readonly clock: Clock;
  /** Fewer and smaller shapes, for a first impression. */
  readonly small: boolean;
  /** Only shapes whose name contains this. */
  readonly only: string;
  /** Takes a Chrome trace, where one is wanted. */
  readonly trace?: (json: string) => void;
  readonly progress: (line: string) => void;
}

export type Suite = (context: SuiteContext) => Promise<Row[]>;
