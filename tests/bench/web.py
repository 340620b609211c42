"""How much of a page's time a fast answer takes: 3,000 pieces at 190 a second, with code, a table and formulas.

    python -m tests.bench.web        (needs Node, `make web` once, chromium)

Prints seconds of script as Chromium counts them, tasks longer than 50 ms, and how late keys were shown meanwhile.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from tests.web.browser import CHROMIUM, FLAGS
from web.site import HOME

PIECES, PER_SECOND = 3000, 190
TYPED = "every key arrives"

_PART = """## Part {n}

Words of an answer that goes on for a while, with **bold**, `code` and a [link](https://example.org), costing $5 or $7.

- first, with some words
- second, with more of them

```python
def part_{n}(values: list[int]) -> int:
    total = 0
    for value in values:
        total += value ** 2  # squared
    return total
```

| name | value |
|---|---|
| a | {n} |
| b | 2 |

$$
\\\\sum_{{i=1}}^{n} x_i^2 = \\\\frac{{a}}{{b}}
$$

"""
_WATCH = """() => {
  window.long = 0; window.late = [];
  new PerformanceObserver((list) => { window.long += list.getEntries().length }).observe({ entryTypes: ["longtask"] });
  const watch = (list) => window.late.push(...list.getEntries().map((entry) => entry.duration));
  new PerformanceObserver(watch).observe({ type: "event", durationThreshold: 16 });
}"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _build(Path(folder))
        sys.stdout.write(json.dumps(measure(Path(folder)), indent=1) + "\n")


def _build(folder: Path) -> None:
    where = ["--config", "bench/vite.config.ts", "--outDir", str(folder), "--emptyOutDir"]
    subprocess.run(["npx", "vite", "build", *where, "--logLevel", "warn"], cwd=HOME, check=True)


def measure(folder: Path) -> dict[str, Any]:
    text = "".join(_PART.format(n=n) for n in range(1, 40))
    size = max(1, len(text) // PIECES)
    pieces = [text[i : i + size] for i in range(0, len(text), size)][:PIECES]
    with sync_playwright() as playwright, _served(folder) as url:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.goto(f"{url}/stream.html")
        page.evaluate(
            "(pieces) => window.feed(pieces, 2000)", pieces[:300]
        )  # warm: highlighter and formulas are loaded
        page.reload()
        page.evaluate(_WATCH)
        devtools = page.context.new_cdp_session(page)
        devtools.send("Performance.enable")
        before = _metrics(devtools)
        page.evaluate("([pieces, rate]) => { window.done = window.feed(pieces, rate) }", [pieces, PER_SECOND])
        page.get_by_label("typed").press_sequentially(TYPED, delay=700)
        page.evaluate("window.done")
        after = _metrics(devtools)
        told = {
            "pieces": len(pieces),
            "characters": sum(map(len, pieces)),
            "script_s": round(after["ScriptDuration"] - before["ScriptDuration"], 2),
            "layout_and_style_s": round(
                sum(after[name] - before[name] for name in ("LayoutDuration", "RecalcStyleDuration")), 2
            ),
            "long_tasks": page.evaluate("window.long"),
            "latest_key_ms": page.evaluate("Math.max(0, ...window.late)"),
            "typed": page.get_by_label("typed").input_value() == TYPED,
        }
        browser.close()
        return told


def _metrics(devtools: Any) -> dict[str, float]:
    return {each["name"]: each["value"] for each in devtools.send("Performance.getMetrics")["metrics"]}


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """The folder over HTTP, on any free port."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().split("(")[1].split(")")[0].rstrip("/")
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
