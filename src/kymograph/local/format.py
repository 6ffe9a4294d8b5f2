"""The bytes of a block (docs/format/block.md): rows to a Parquet file, and what its metadata says."""

from __future__ import annotations

import base64
import json
import uuid
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from kymograph.errors import Corrupt, StorageError
from kymograph.local.encoding import EncodingChooser, arguments
from kymograph.local.samples import ENCODINGS, STORED, stored
from kymograph.model.schema import SAMPLES_SCHEMA, SERIES_ID, TableSchema
from kymograph.model.time import TIME, isoformat

# 2 is a block of `samples` with scaled values, 3 one of a table with labels that came later, 1 every other
VERSION = 3
METADATA = b"kymograph"
ROW_GROUP = 65_536
PAGE_ROWS = 16_384
# row groups of samples, which are one page each: series of one scrape share their times, and only many in a page make that cheap
SAMPLES_GROUP = 131_072

SeriesNames = Mapping[int, tuple[str, Mapping[str, str]]]


def encode(
    schema: TableSchema,
    data: pa.Table,
    chooser: EncodingChooser,
    *,
    partition: int,
    level: int,
    replaces: Sequence[str] = (),
    series: SeriesNames | None = None,
) -> memoryview:
    """Parquet bytes of sorted rows, with all that is needed to rebuild the catalog in the metadata.

    Args:
        data: rows in the canonical columns, sorted by labels and time, of one partition.
        replaces: paths of the blocks whose rows these are; a rebuild leaves those out.
        series: for the table `samples`, what its ids stand for.
    """
    scaled = schema.arrow.equals(SAMPLES_SCHEMA.arrow)
    size = SAMPLES_GROUP if scaled else ROW_GROUP
    document: dict[str, Any] = {
        "version": 2 if scaled else 3 if schema.later else 1,
        "table": schema.to_json(),
        "partition": partition,
        "level": level,
        "replaces": list(replaces),
    }
    if series is not None:
        text = json.dumps({str(i): [name, dict(labels)] for i, (name, labels) in series.items()})
        document["series"] = base64.b64encode(zlib.compress(text.encode())).decode()
    arrow = (STORED if scaled else schema.arrow).with_metadata({METADATA: json.dumps(document).encode()})
    columns = [arrow.get_field_index(name) for name in (*schema.labels, TIME)]
    sink = pa.BufferOutputStream()
    with pq.ParquetWriter(
        sink,
        arrow,
        **arguments(chooser.choose(schema.name, data, ENCODINGS if scaled else {})),
        max_rows_per_page=size if scaled else PAGE_ROWS,
        write_page_index=not scaled,  # a page is a row group there
        write_statistics=[SERIES_ID, TIME] if scaled else True,
        write_page_checksum=True,
        sorting_columns=[pq.SortingColumn(column, nulls_first=True) for column in columns],
    ) as writer:
        for start in range(0, data.num_rows, size):
            group = data.slice(start, size)
            arrays = stored(group) if scaled else _own_dictionaries(group)
            writer.write_table(pa.Table.from_arrays(arrays, schema=arrow), row_group_size=size)
    return memoryview(sink.getvalue())


def _own_dictionaries(group: pa.Table) -> list[pa.Array]:
    """The columns of one row group whose dictionaries hold only its own labels; else each would carry those of the whole block."""
    arrays = []
    for column in group.columns:
        array = column.combine_chunks()
        if pa.types.is_dictionary(array.type):
            codes = array.indices.fill_null(-1).to_numpy()
            used = np.zeros(len(array.dictionary) + 1, np.bool_)
            used[codes] = True
            place = np.cumsum(used, dtype=np.int32) - 1
            indices = pa.array(place[codes], mask=codes < 0)
            array = pa.DictionaryArray.from_arrays(indices, array.dictionary.take(pa.array(np.flatnonzero(used[:-1]))))
        arrays.append(array)
    return arrays


class NewerBlock(StorageError):
    """Not damage: nothing of the block is to be salvaged or moved."""


def footer(data: memoryview) -> bytes:
    """The end of a block's bytes that says where everything is; the catalog keeps a copy for repair."""
    size = int.from_bytes(data[-8:-4], "little") + 8
    return bytes(data[-size:])


def decode_metadata(schema: pa.Schema) -> dict[str, Any]:
    """What `encode` put into the file's metadata.

    Raises:
        Corrupt: it is not there, or broken.
        NewerBlock: it is of a later release.
    """
    try:
        document: dict[str, Any] = json.loads((schema.metadata or {})[METADATA])
        if document["version"] > VERSION:
            raise NewerBlock(
                f"a block is of format {document['version']}, this release reads 1 to {VERSION}",
                hint="open the store with the release that wrote it, or a newer one",
            )
        if "series" in document:
            document["series"] = json.loads(zlib.decompress(base64.b64decode(document["series"])))
    except (KeyError, ValueError, TypeError, zlib.error) as problem:
        raise Corrupt(f"not a block of this store: {problem!r}") from None
    return document


def new_path(table: str, partition: int, min_time: int) -> str:
    """A fresh relative path; names sort by time."""
    stamp = isoformat(partition).replace(":", "").replace("Z", "")
    return f"{table}/{stamp}/{min_time:+020d}-{uuid.uuid4().hex[:12]}.parquet"
