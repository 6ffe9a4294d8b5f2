"""`StreamClient` against a real server: every call, errors as they were raised there, blocks that join."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import kymograph.client.inserting
from kymograph.client import StreamClient
from kymograph.errors import AccessError, AlreadyExists, InvalidInput, NotFound, Overlap, StorageError
from kymograph.model.stream import Layout
from kymograph.server.limits import Limits
from kymograph.server.state import ServerState
from kymograph.store import tokens
from tests.server.running import Running, running

LAYOUT = Layout.parse("float32_8")
PATH = "/lab/ü 1/prep"
T0 = 1_700_000_000_000_000


def rows(count: int, first: int = T0) -> np.ndarray:
    made = np.zeros(count, LAYOUT.rows)
    made["timestamp"] = first + np.arange(count) * 1000
    made["data"] = np.random.default_rng(count).normal(0, 1, (count, 8))
    return made


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(tmp_path_factory.mktemp("streams") / "store") as started:
        yield started


@pytest.fixture
def client(server: Running) -> Iterator[StreamClient]:
    with StreamClient(server.url) as made:
        made.stream_create(PATH, "PrepData")
        yield made
        for path, _ in made.stream_list():
            made.stream_destroy(path)


def test_arrays_there_and_back(client: StreamClient) -> None:
    given = rows(250_000)
    client.stream_insert_numpy(PATH, given)
    back = list(client.stream_extract_numpy(PATH, maxrows=70_000))
    assert max(map(len, back)) <= 70_000
    assert np.concatenate(back).tobytes() == given.tobytes()
    flat = np.concatenate(list(client.stream_extract_numpy(PATH, start=T0 + 1000, end=T0 + 3000, structured=False)))
    assert flat.shape == (2, 9)
    assert flat[:, 0].tolist() == [T0 + 1000, T0 + 2000]
    assert client.stream_count(PATH) == 250_000
    assert client.stream_count(PATH, start=T0 + 1, end=T0 + 1001) == 1
    assert list(client.stream_intervals(PATH)) == [(T0, T0 + 249_999_001)]
    level = np.concatenate(list(client.stream_extract_numpy(f"{PATH}~decim-4", maxrows=10**6)))
    assert level.dtype == LAYOUT.levels
    assert np.allclose(level["mean"][0], given["data"][:4].astype(float).mean(0))


def test_blocks_of_a_context_join(client: StreamClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kymograph.client.inserting, "BLOCK", 40 * 1000)
    given = rows(10_000)
    with client.stream_insert_numpy_context(PATH, start=T0 - 500, end=T0 + 10**8) as context:
        for part in np.array_split(given[:6000], 37):
            context.insert(part)
        context.finalize()
        context.update_start(T0 + 2 * 10**8)
        later = given[6000:].copy()
        later["timestamp"] += 2 * 10**8
        context.insert(later)
    last = int(later["timestamp"][-1]) + 1
    assert list(client.stream_intervals(PATH)) == [(T0 - 500, T0 + 10**8), (T0 + 2 * 10**8, last)]
    assert client.stream_count(PATH) == 10_000


def test_text_there_and_back(client: StreamClient) -> None:
    lines = [f"{1000 + n} " + " ".join(str(n + m / 2) for m in range(8)) for n in range(100)]
    client.stream_insert(PATH, "\n".join(lines[:50]) + "\n", start=0, end=1050)
    with client.stream_insert_context(PATH, start=1050) as context:
        text = ("\n".join(lines[50:])).encode()
        for at in range(0, len(text), 17):
            context.insert(text[at : at + 17])
    assert list(client.stream_intervals(PATH)) == [(0, 1100)]
    back = list(client.stream_extract(PATH, start=1000, end=1002, markup=True))
    assert back[0] == b"# interval-start 1000"
    assert back[-1] == b"# interval-end 1002"
    assert [float(word) for word in back[1].split()] == [float(word) for word in lines[0].split()]
    assert list(client.stream_extract(PATH, count=True)) == [b"100"]


def test_the_life_of_a_stream(client: StreamClient) -> None:
    assert client.version()
    assert client.dbinfo()["size"] > 0
    client.stream_set_metadata(PATH, {"a": "1", "b": "2"})
    client.stream_update_metadata(PATH, {"a": None, "c": "ü"})
    assert client.stream_get_metadata(PATH) == {"b": "2", "c": "ü"}
    assert client.stream_get_metadata(PATH, ["a", "c"]) == {"a": None, "c": "ü"}
    client.stream_insert_numpy(PATH, rows(10))
    assert client.stream_remove(PATH, end=T0 + 3000) == 3
    client.stream_create("/lab/2/prep", "float32_8")
    assert list(client.stream_intervals(PATH, diffpath="/lab/2/prep")) == [(T0 + 3000, T0 + 9001)]
    client.stream_rename(PATH, "/lab/3/prep")
    assert client.stream_list(layout="float32_8", extended=True)[1][:5] == [
        "/lab/3/prep", "float32_8", T0 + 3000, T0 + 9001, 7,
    ]  # fmt: skip
    assert client.stream_remove("/lab/3/prep") == 7


def test_errors_are_those_of_the_store(client: StreamClient) -> None:
    client.stream_insert_numpy(PATH, rows(10))
    with pytest.raises(Overlap, match="overlaps"):
        client.stream_insert_numpy(PATH, rows(10))
    with pytest.raises(NotFound):
        client.stream_count("/no/such")
    with pytest.raises(NotFound):
        client.stream_insert_numpy("/no/such", rows(1))
    with pytest.raises(InvalidInput):
        client.stream_create("/x/y", "uint13_1")
    with pytest.raises(InvalidInput):
        client.stream_insert_numpy(PATH, np.zeros((3, 4)))
    with pytest.raises(InvalidInput):
        StreamClient("ftp://somewhere")
    client.stream_create("/lab/2/prep", "float32_8")
    with pytest.raises(AlreadyExists):
        client.stream_rename(PATH, "/lab/2/prep")
    assert client.stream_count(PATH) == 10


def test_a_server_that_is_not_there() -> None:
    with StreamClient("http://127.0.0.1:9") as client, pytest.raises(StorageError, match="cannot be reached"):
        client.version()


def test_tokens_and_namespaces(tmp_path: Path) -> None:
    def prepare(state: ServerState) -> None:
        state.slot.get().create_namespace("solar")

    with running(tmp_path, auth=True, limits=Limits(failures_per_minute=1000), prepare=prepare) as server:
        token = tokens.create(server.state.slot.get().engine, "write", "t")
        with StreamClient(server.url) as nobody, pytest.raises(AccessError):
            nobody.stream_list()
        with StreamClient(f"{server.url}/ns/solar/", token) as client:
            client.stream_create("/a/b", "float32_8")
            client.stream_insert_numpy("/a/b", rows(5))
            with pytest.raises(AccessError):
                client.stream_destroy("/a/b")
        with StreamClient(server.url, token) as client:
            assert client.stream_list() == []
