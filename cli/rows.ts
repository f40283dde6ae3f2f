/**
 * Tidy tables: one row a (model, prompt, neuron[, shift]), all that a row is about in its own columns, none of it in a file's name. docs/tables.md
 * has the columns; a test holds it to what stands here.
 *
 * Rows come in blocks: what is the same for all of a block is said once, so that a block of a prompt's neurons is its arrays.
 */

import { dsvFormat } from 'd3-dsv';
import type { SchemaElement } from 'hyparquet';
import { ByteWriter, ParquetWriter } from 'hyparquet-writer';
import { UserError } from '../engine/errors.ts';

/** What the cells of a column are. */
export type ColumnKind = 'text' | 'whole' | 'number' | 'flag';
/** A cell; null where there is nothing to say, and for what is no number. */
export type Cell = string | number | boolean | null;

/** A kind of table. */
export interface RowSchema {
  /** Its name and version, in files that can say it: `neurgrad gradients 2`. Columns are only ever added within a version. */
  readonly format: string;
  readonly columns: Readonly<Record<string, ColumnKind>>;
}

/** Rows of one table. */
export interface RowBlock {
  readonly count: number;
  /** Columns that are the same in all rows. */
  readonly same: Readonly<Record<string, Cell>>;
  /** The others, a cell a row. */
  readonly each: Readonly<Record<string, ArrayLike<Cell>>>;
}

/** Formats of a table, and what stands for it on a terminal. */
export const ROW_FORMATS = ['table', 'json', 'jsonl', 'csv', 'parquet'] as const;
/** One of {@link ROW_FORMATS}. */
export type RowFormat = (typeof ROW_FORMATS)[number];

const cellOf = (block: RowBlock, name: string, row: number): Cell => {
  const cell = block.each[name]?.[row] ?? block.same[name] ?? null;
  return typeof cell === 'number' && !Number.isFinite(cell) ? null : cell;
};

/** One column of some blocks, as a list. @throws Error for a column that none of them has: a mistake of ours. */
function columnOf(blocks: readonly RowBlock[], name: string): Cell[] {
  const cells: Cell[] = [];
  for (const block of blocks) {
    if (!(name in block.each || name in block.same)) throw new Error(`a block of rows has no ${name}`);
    for (let row = 0; row < block.count; row++) cells.push(cellOf(block, name, row));
  }
  return cells;
}

/** Writes rows in a format, piece by piece. */
export interface RowWriter {
  write(blocks: readonly RowBlock[]): void;
  end(): void;
}

/** @param put takes what is written. */
export function rowWriter(
  format: Exclude<RowFormat, 'table'>,
  schema: RowSchema,
  put: (part: string | Uint8Array) => void,
): RowWriter {
  const names = Object.keys(schema.columns);
  if (format === 'parquet') return parquetRows(schema, put);
  if (format === 'csv') {
    const { formatRow } = dsvFormat(',');
    put(`${formatRow(names)}\n`);
    return {
      write(blocks) {
        for (const block of blocks) {
          let text = '';
          for (let row = 0; row < block.count; row++)
            text += `${formatRow(names.map((name) => cellOf(block, name, row)))}\n`;
          put(text);
        }
      },
      end() {},
    };
  }
  const lines = format === 'jsonl';
  let first = true;
  if (!lines) put(`{"format":${JSON.stringify(schema.format)},"rows":[`);
  return {
    write(blocks) {
      for (const block of blocks) {
        let text = '';
        for (let row = 0; row < block.count; row++) {
          const cells = Object.fromEntries(names.map((name) => [name, cellOf(block, name, row)]));
          text += lines ? `${JSON.stringify(cells)}\n` : `${first ? '' : ','}\n${JSON.stringify(cells)}`;
          first = false;
        }
        put(text);
      }
    },
    end() {
      if (!lines) put('\n]}\n');
    },
  };
}

const PARQUET: Readonly<Record<ColumnKind, Pick<SchemaElement, 'type' | 'converted_type'>>> = {
  text: { type: 'BYTE_ARRAY', converted_type: 'UTF8' },
  whole: { type: 'INT32' },
  number: { type: 'DOUBLE' },
  flag: { type: 'BOOLEAN' },
};

/** @param about what the file says of itself, beside its format. */
export function parquetRows(
  schema: RowSchema,
  put: (part: Uint8Array) => void,
  about: readonly { readonly key: string; readonly value: string }[] = [],
): RowWriter {
  const columns = Object.entries(schema.columns);
  const writer = new ByteWriter();
  const flushed = Object.assign(writer, {
    flush(): void {
      put(new Uint8Array(writer.buffer.slice(0, writer.index)));
      writer.index = 0;
    },
  });
  const parquet = new ParquetWriter({
    writer: flushed,
    schema: [
      { name: 'root', num_children: columns.length },
      ...columns.map(
        ([name, kind]): SchemaElement => ({ name, ...PARQUET[kind], repetition_type: 'OPTIONAL' }),
      ),
    ],
    kvMetadata: [{ key: 'format', value: schema.format }, ...about],
  });
  return {
    write(blocks) {
      if (blocks.every(({ count }) => count === 0)) return;
      parquet.write({ columnData: columns.map(([name]) => ({ name, data: columnOf(blocks, name) })) });
    },
    end() {
      parquet.finish();
      flushed.flush();
    },
  };
}

const ENDINGS: Readonly<Record<string, RowFormat>> = {
  '.json': 'json',
  '.jsonl': 'jsonl',
  '.csv': 'csv',
  '.parquet': 'parquet',
};
/** Endings of files of rows. */
export const ROW_ENDINGS = ['.json', '.jsonl', '.csv', '.parquet'] as const;

/**
 * The format that is meant by an option, a file's ending, or neither.
 * @throws UserError where the two do not agree.
 */
export function formatOf(
  asked: RowFormat | undefined,
  out: string | undefined,
  ending: string,
): RowFormat | undefined {
  const named = ENDINGS[ending];
  if (asked !== undefined && named !== undefined && asked !== named)
    throw new UserError(
      'out',
      `--out ${out} is named as ${named}, --format asks for ${asked}; leave one of them out, or make them agree`,
    );
  return asked ?? named;
}
