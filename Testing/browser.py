"""A headless Chromium, driven over its own protocol: pages are opened, clicked and typed into as a person does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional


def chromium() -> Optional[str]:
    """The program, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One page in the browser."""

    def __init__(self, loop: asyncio.AbstractEventLoop, socket: Any) -> None:
        self._loop, self._socket, self._number = loop, socket, 0

    def call(self, method: str, **values: Any) -> dict:
        """A command of the protocol; returns its answer."""
        return self._loop.run_until_complete(self._call(method, values))

    async def _call(self, method: str, values: dict) -> dict:
        self._number += 1
        await self._socket.write_message(json.dumps({"id": self._number, "method": method, "params": values}))
        while True:
            answer = json.loads(await asyncio.wait_for(self._socket.read_message(), 60))
            if answer.get("id") == self._number:
                return answer["result"]

    def ask(self, expression: str) -> Any:
        """The value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def open(self, path: Path) -> None:
        """Go to a file."""
        self.call("Page.navigate", url=path.as_uri())
        self.until("document.readyState === 'complete'")

    def until(self, expression: str) -> None:
        """Wait for an expression to be true."""
        for _ in range(600):
            with contextlib.suppress(KeyError):  # a page that is being left answers with an error
                if self.ask(expression):
                    return
            time.sleep(0.05)
        raise AssertionError(f"never true: {expression}")

    def click(self, selector: str, corner: bool = False) -> None:
        """A click of the mouse on an element: its middle, or its upper left corner."""
        x, y, width, height = self.ask(
            f"(e => {{ e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); "
            f"return [r.x, r.y, r.width, r.height] }})(document.querySelector({json.dumps(selector)}))")
        at = {"x": x + (3 if corner else width / 2), "y": y + (3 if corner else height / 2)}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **at)

    def type(self, text: str) -> None:
        """Text into the element that has the focus."""
        self.call("Input.insertText", text=text)


@contextlib.contextmanager
def opened() -> Iterator[Page]:
    """A page of a new browser."""
    from tornado.websocket import websocket_connect

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0",
             "--remote-allow-origins=*", "--window-size=1400,1000", f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        loop = asyncio.new_event_loop()
        try:
            port = Path(profile) / "DevToolsActivePort"
            for _ in range(600):
                if port.exists() and port.read_text().strip():
                    break
                time.sleep(0.05)
            with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json") as answer:
                address = next(one["webSocketDebuggerUrl"] for one in json.load(answer) if one["type"] == "page")
            socket = loop.run_until_complete(_connect(websocket_connect, address))
            yield Page(loop, socket)
        finally:
            process.kill()
            process.wait()
            loop.close()


async def _connect(connect: Any, address: str) -> Any:
    return await connect(address, max_message_size=1 << 26)
