"""A headless Chromium driven through a pair of pipes, with nothing but the standard library.

`--remote-debugging-pipe` reads messages of the DevTools protocol from descriptor 3 and writes them to 4, each a JSON
object with a zero byte behind it.
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
)
SWITCHES = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio"),
    *("--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage", "--remote-debugging-pipe"),
)
WAIT_SECONDS = 60.0


class Browser:
    """One tab; use it in a `with` statement.

    Attributes:
        complaints: what the page wrote to its console as an error (such as a breach of its content security policy).
        requests: every address that it asked for.
    """

    def __init__(self, width: int = 1280, height: int = 1600, *, dark: bool = False) -> None:
        self._folder = tempfile.mkdtemp(prefix="browser-")
        self._number = 0
        self._rest = b""
        self.complaints: list[str] = []
        self.requests: list[str] = []
        to_read, self._write = os.pipe()
        self._read, to_write = os.pipe()
        # The pipes' ends move to 3 and 4 in the shell, wherever they are here.
        command = f'exec "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, "sh", CHROMIUM, *SWITCHES, f"--user-data-dir={self._folder}", "about:blank"],
            pass_fds=(to_read, to_write),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        targets = self._send("Target.getTargets", session=None)["targetInfos"]
        target = next(one["targetId"] for one in targets if one["type"] == "page")
        self._session: str | None = None
        self._session = self._send("Target.attachToTarget", session=None, targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._send(f"{domain}.enable")
        self._send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a page and wait until its programs have run."""
        self._send("Page.navigate", url=page.resolve().as_uri() + fragment)
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, program: str) -> Any:
        """The value of an expression in the page."""
        found = self._send("Runtime.evaluate", expression=program, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise AssertionError(f"{program}: {found['exceptionDetails']['exception'].get('description')}")
        return found["result"].get("value")

    def wait_for(self, program: str) -> None:
        """Until an expression holds."""
        end = time.monotonic() + WAIT_SECONDS
        while not self.run(program):
            if time.monotonic() > end:
                raise AssertionError(f"never came true: {program}")
            time.sleep(0.05)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Left, top, width and height of an element on the screen, scrolled to."""
        found = self.run(
            f"(() => {{const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'center'}});"
            "const b = e.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]})()"
        )
        return found[0], found[1], found[2], found[3]

    def click(self, selector: str, x: float | None = None, y: float | None = None) -> None:
        """A press of the mouse on an element, in its middle or so many pixels from its corner."""
        left, top, width, height = self.box(selector)
        at = {"x": left + (width / 2 if x is None else x), "y": top + (height / 2 if y is None else y)}
        for kind, buttons in (("mouseMoved", 0), ("mousePressed", 1), ("mouseReleased", 0)):
            self._send("Input.dispatchMouseEvent", type=kind, button="left", buttons=buttons, clickCount=1, **at)

    def press(self, key: str) -> None:
        """A key, where the focus is."""
        for kind in ("rawKeyDown", "keyUp"):
            self._send("Input.dispatchKeyEvent", type=kind, key=key)

    def screenshot(self, path: Path, *, whole: bool = False) -> None:
        """What is on the screen, or the page from top to bottom."""
        more: dict[str, Any] = {}
        if whole:
            width, height = self.run("[innerWidth, document.documentElement.scrollHeight]")
            more = {
                "captureBeyondViewport": True,
                "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1},
            }
        path.write_bytes(base64.b64decode(self._send("Page.captureScreenshot", format="png", **more)["data"]))

    def _send(self, method: str, session: str | None = "own", **parameters: Any) -> dict[str, Any]:
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            self._note(answer)
            if answer.get("id") == self._number:
                if "error" in answer:
                    raise AssertionError(f"{method}: {answer['error']['message']}")
                result: dict[str, Any] = answer["result"]
                return result

    def _note(self, answer: dict[str, Any]) -> None:
        kind, given = answer.get("method", ""), answer.get("params", {})
        if kind == "Log.entryAdded" and given["entry"]["level"] == "error":
            self.complaints.append(f"{given['entry']['text']} {given['entry'].get('url', '')}"[:300])
        if kind == "Runtime.exceptionThrown":
            self.complaints.append(str(given["exceptionDetails"])[:500])
        if kind == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"][:200])

    def _receive(self) -> dict[str, Any]:
        end = time.monotonic() + WAIT_SECONDS
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise AssertionError("the browser does not answer")
            piece = os.read(self._read, 1 << 16)
            if not piece:
                raise AssertionError("the browser has ended")
            self._rest += piece
        message, self._rest = self._rest.split(b"\0", 1)
        return dict(json.loads(message))
