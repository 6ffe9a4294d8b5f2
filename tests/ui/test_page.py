"""The pages in a real browser: they fill, they move, they come back, and nothing they do breaks their own policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from kymograph.collect.host import HostCollector
from kymograph.collect.simulate import SimulateCollector
from kymograph.server.state import ServerState
from kymograph.store import tokens
from tests.ports import free_port
from tests.server.conftest import gpu_rows
from tests.server.running import Running, running
from tests.ui.browser import Page, browser, chromium

pytestmark = pytest.mark.skipif(chromium() is None, reason="there is no Chromium")

CARDS = "document.querySelectorAll('#gpus .card').length"
LIVE = "document.getElementById('state').dataset.state === 'live'"
# a pixel of a chart that is neither empty nor of the grid
DRAWN = """[...document.querySelectorAll('.chart canvas')].map((canvas) => {
    const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
    let seen = 0; for (let at = 3; at < data.length; at += 4) seen += data[at] > 200;
    return seen; }).filter((seen) => seen > 50).length"""


@pytest.fixture(scope="module")
def tab() -> Iterator[Callable[[], Page]]:
    path = chromium()
    assert path is not None
    with browser(path) as opened:
        yield opened


@pytest.fixture(scope="module")
def recording() -> Iterator[Running]:
    collectors = [partial(SimulateCollector, 4, 200_000), partial(HostCollector, 200_000)]
    with running(collectors=collectors) as server:
        yield server


def shown(page: Page) -> str:
    return str(
        page.value("[...document.querySelectorAll('.figure dd, .fleet dd')].map((each) => each.textContent).join('|')")
    )


def test_cards_fill_and_move(tab: Callable[[], Page], recording: Running) -> None:
    page = tab()
    page.size(1300, 1000)
    page.open(recording.url)
    page.until(f"{CARDS} === 4 && {LIVE}")
    page.until("document.querySelector('#host .figure.util dd').textContent.includes('%')")
    first = shown(page)
    page.until(
        "[...document.querySelectorAll('.figure dd, .fleet dd')].map((each) => each.textContent).join('|') !== "
        + repr(first).replace("\\xa0", " ")
    )
    page.until(f"{DRAWN} >= 5")
    for part in ("GPU 0", "GPU 3", "NVIDIA H100", "simulated", "Recording to memory:", "rows", "Mean utilization"):
        page.until(f"document.body.innerText.includes({part!r})")
    assert page.value("document.title") == "Kymograph · 4 GPUs"
    assert page.problems == []


def test_history_is_there_at_once(tab: Callable[[], Page]) -> None:
    """Rows recorded before the page was opened are in its charts, and GPUs that send nothing have no card."""

    def fill(state: ServerState) -> None:
        gpu_rows(state)
        store = state.slot.get()
        row = store.latest("gpu_metrics", {"gpu_uuid": "GPU-1"})
        state.hub.take(_batch(row))

    with running(prepare=fill) as server:
        page = tab()
        page.open(server.url)
        page.until(f"{CARDS} === 1 && {LIVE}")
        page.until(
            "document.querySelector('#gpus .card').card.trace.length > 90"
            " && document.querySelector('#gpus .card').card.trace.columns[3][5] === 200"
        )
        page.until(f"{DRAWN} >= 1")
        assert page.problems == []


def test_the_page_comes_back_when_the_server_does(tab: Callable[[], Page]) -> None:
    page = tab()
    port = free_port()
    with running(collectors=[partial(SimulateCollector, 1, 200_000)], port=port) as server:
        page.open(server.url)
        page.until(f"{CARDS} === 1 && {LIVE}")
    page.until("document.getElementById('state').dataset.state === 'lost'")
    with running(collectors=[partial(SimulateCollector, 2, 200_000)], port=port):
        page.until(f"{CARDS} === 2 && {LIVE}")


@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (390, "dark"), (1300, "dark")])
def test_it_fits_the_screen_and_follows_the_scheme(
    tab: Callable[[], Page], recording: Running, width: int, scheme: str
) -> None:
    page = tab()
    page.size(width, 900)
    page.media(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    page.open(recording.url)
    page.until(f"{CARDS} === 4 && {LIVE}")
    assert page.value("document.documentElement.scrollWidth") <= width
    over = """[...document.querySelectorAll('.card, .fleet div')].filter((box) => [...box.querySelectorAll('*')].some((each) =>
        each.getClientRects().length && each.getBoundingClientRect().right > box.getBoundingClientRect().right + 1)).length"""
    assert page.value(over) == 0
    light = page.value("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number)[0]") > 128
    assert light == (scheme == "light")
    assert page.picture().startswith(b"\x89PNG")


def test_contrast_is_enough(tab: Callable[[], Page], recording: Running) -> None:
    """WCAG AA, 4.5 to 1, for every text colour on the card in both schemes."""
    measure = """(() => {
      const parse = (text) => { const probe = document.createElement('canvas').getContext('2d'); probe.fillStyle = text;
        return [1, 3, 5].map((at) => parseInt(probe.fillStyle.slice(at, at + 2), 16) / 255); };
      const light = (text) => { const [r, g, b] = parse(text).map((c) => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b; };
      const style = getComputedStyle(document.documentElement);
      const read = (name) => style.getPropertyValue(`--${name}`).trim();
      return Object.fromEntries(['text', 'quiet', 'util', 'temp', 'power', 'mem', 'good', 'warn', 'bad'].flatMap((name) =>
        ['card', 'ground'].map((ground) => { const [one, other] = [light(read(name)), light(read(ground))].sort((a, b) => b - a);
          return [`${name} on ${ground}`, (one + .05) / (other + .05)]; })));
    })()"""
    page = tab()
    for scheme in ("light", "dark"):
        page.media(prefers_color_scheme=scheme)
        page.open(recording.url)
        page.until(LIVE)
        ratios = page.value(measure)
        assert {pair: ratio for pair, ratio in ratios.items() if ratio < 4.5} == {}, scheme


def test_a_keyboard_reaches_everything(tab: Callable[[], Page], recording: Running) -> None:
    page = tab()
    page.open(recording.url)
    page.until(LIVE)
    reached = []
    for _ in range(4):
        page.press("Tab")
        reached.append(page.value("document.activeElement.textContent.trim() || document.activeElement.tagName"))
    assert reached == ["Skip to the values", "Kymograph", "API", "Metrics"]
    assert page.value("[...document.querySelectorAll('.chart')].every((each) => each.getAttribute('aria-label'))")
    assert page.value("document.querySelectorAll('[role=status], [role=alert], [role=meter]').length") == 3


def test_a_hundred_gpus_do_not_melt_it(tab: Callable[[], Page]) -> None:
    """Only cards near the screen have charts; a frame of 150 GPUs is shown in a fraction of its interval."""
    with running(collectors=[partial(SimulateCollector, 150, 500_000)]) as server:
        page = tab()
        page.size(1300, 800)
        page.open(server.url)
        page.until(f"{CARDS} === 150 && {LIVE}")
        page.until("document.querySelectorAll('#gpus .u-wrap').length > 5")
        assert page.value("document.querySelectorAll('#gpus .u-wrap').length") < 80
        page.value(
            "(() => { const box = document.getElementById('filter'); box.value = 'gpu 14'; box.dispatchEvent(new Event('input')); })()"
        )
        left = "[...document.querySelectorAll('#gpus .card')].filter((card) => !card.hidden).length"
        # 14 and 140 to 149
        assert page.value(left) == 11
        page.value(
            "(() => { const box = document.getElementById('filter'); box.value = '<img src=x>'; box.dispatchEvent(new Event('input')); })()"
        )
        assert page.value(left) == 0
        assert "No GPU matches" in page.text()
        assert page.problems == []


def test_hostile_names_are_text(tab: Callable[[], Page]) -> None:
    name = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"

    def fill(state: ServerState) -> None:
        gpu_rows(state)
        row = state.slot.get().latest("gpu_metrics", {"gpu_uuid": "GPU-0"})
        for column in ("name", "hostname", "gpu_uuid"):
            at = row.schema.get_field_index(column)
            row = row.set_column(at, column, [[name]])
        state.hub.take(_batch(row))

    with running(prepare=fill) as server:
        page = tab()
        page.open(server.url)
        page.until(f"{CARDS} === 1 && {LIVE}")
        page.until(f"document.querySelector('#gpus .card .name').textContent === {name!r}")
        assert page.value("document.querySelectorAll('#gpus img, #gpus script').length") == 0
        assert page.value("document.title") == "Kymograph · 1 GPU"
        assert page.problems == []


def test_a_token_opens_the_page(tab: Callable[[], Page]) -> None:
    with running(collectors=[partial(SimulateCollector, 1, 200_000)], auth=True) as server:
        token = tokens.create(server.state.slot.get().engine, "read")
        page = tab()
        page.open(server.url)
        page.until("!document.querySelector('#door button').disabled")
        enter = (
            "(() => {{ document.getElementById('token').value = {0!r}; document.querySelector('button').click(); }})()"
        )
        page.value(enter.format("wrong"))
        page.until("!document.getElementById('problem').hidden")
        assert "not valid" in page.text()
        page.value(enter.format(token))
        page.until(f"document.getElementById('state') !== null && {CARDS} === 1 && {LIVE}")
        assert page.value("document.cookie") == ""


def test_the_api_page_describes_and_tries(tab: Callable[[], Page], recording: Running) -> None:
    page = tab()
    page.open(recording.url + "/docs")
    page.until("document.querySelectorAll('details.path').length > 10")
    page.value(
        "(() => { const box = [...document.querySelectorAll('details.path')].find((each) => each.textContent.includes('/api/sql'));"
        " box.open = true; box.id = 'it'; box.querySelector('textarea').value = '{\"sql\": \"SELECT 40 + 2 AS answer\"}';"
        " box.querySelector('button').click(); })()"
    )
    page.until("document.querySelector('#it .answer').textContent.includes('42')")
    assert "200" in page.value("document.querySelector('#it [role=status]').textContent")
    assert page.problems == []


def _batch(table: object) -> object:
    from kymograph.collect.batch import Batch

    return Batch("nvml", 1, {"gpu_metrics": table})


def test_behind_a_path_prefix(tab: Callable[[], Page]) -> None:
    """Pages, what they load, the API and the stream are all found below the prefix."""
    with running(collectors=[partial(SimulateCollector, 2, 200_000)], prefix="/proxied/kymo") as server:
        page = tab()
        page.open(f"{server.url}/proxied/kymo")
        page.until(f"{CARDS} === 2 && {LIVE}")
        assert page.value("location.pathname") == "/proxied/kymo/"
        loaded = "performance.getEntriesByType('resource').every((each) => each.name.includes('/proxied/kymo/'))"
        assert page.value(loaded)
        page.open(f"{server.url}/proxied/kymo/docs")
        page.until("document.querySelectorAll('details, section').length > 5")
        assert page.problems == []
