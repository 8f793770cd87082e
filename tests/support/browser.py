"""A real Chromium for tests of the page, and what it complained about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)


_WATCH = """
window.POLICY = [];
addEventListener("securitypolicyviolation", (event) => POLICY.push(`${event.violatedDirective} ${event.blockedURI}`));
"""


def chromium_path() -> str:
    """The browser of this machine."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    assert found, "the tests of the page need a Chromium: `make browser` installs it where apt-get may"
    return found


@contextmanager
def started() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=list(FLAGS))
        yield browser
        browser.close()


@dataclass
class Opened:
    """A page that is open, with every error and every request."""

    page: Page
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def do(self, script: str) -> object:
        return self.page.evaluate(script)

    @property
    def count(self) -> str:
        return self.page.inner_text("#count")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def wait_pair(self) -> str:
        """Waits until the pair that the address names is shown; returns its name."""
        self.page.wait_for_function(
            "() => { const p = new URLSearchParams(location.hash.slice(1)).get('p');"
            " return p && document.documentElement.dataset.pair === p; }"
        )
        return str(self.do("document.documentElement.dataset.pair"))

    def search(self, words: str) -> None:
        self.page.fill("#search", words)
        self.page.press("#search", "Enter")
        self.page.wait_for_function("words => document.documentElement.dataset.search === words", arg=words)


def opened(browser: Browser, path: Path, hash: str = "", *, before: str = "", **options: object) -> Opened:
    """Opens a page from its file, runs a script before those of the page, and waits until it can be used."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, **options)
    page = context.new_page()
    found = Opened(page)
    page.on("console", lambda message: found.errors.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: found.errors.append(str(error)))
    # Threads of the page are made from a text of its own, which is no request.
    page.on("request", lambda request: request.url.startswith("blob:") or found.requests.append(request.url))
    page.add_init_script(_WATCH + before)
    page.goto(f"{path.as_uri()}{hash}")
    page.wait_for_selector("html[data-state=ready]")
    return found
