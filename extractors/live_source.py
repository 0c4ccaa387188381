"""Where live media comes from: a camera, a stream at an address, or a file played at its own speed."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from extractors.errors import MediaError
from extractors.media import ALLOWED_FORMATS, MediaFile

PROTOCOLS = {
    "http": "http,tcp",
    "https": "https,tls,tcp",
    "rtsp": "rtsp,rtp,rtcp,udp,tcp",
    "rtsps": "rtsp,rtsps,rtp,srtp,rtcp,udp,tls,tcp",
    "rtmp": "rtmp,tcp",
    "rtmps": "rtmps,tls,tcp",
    "rtp": "rtp,udp",
    "tcp": "tcp",
    "udp": "udp",
}
"""Streams that are taken, each with the protocols that FFmpeg may use for it: never `file`, so that a playlist that a
server sends reaches nothing on this machine."""

# What a server may send beside self-contained media. HLS names further addresses, which the protocols above bound.
_STREAM_FORMATS = (*ALLOWED_FORMATS, "hls", "rtsp", "rtp", "live_flv")
OPEN_SECONDS = 10.0
"""A stream that does not answer, or falls silent, for longer than this is broken."""
_DEVICE = re.compile(r"/dev/video\d+")

Kind = Literal["camera", "stream", "file"]


@dataclass(frozen=True)
class LiveSource:
    """Something that is watched while it happens.

    Attributes:
        kind: `"camera"` (Video4Linux), `"stream"` (an address) or `"file"` (played in real time).
        address: the device, the address, or the path.
    """

    kind: Kind
    address: str

    @classmethod
    def of(cls, given: str | int) -> LiveSource:
        """What a user's words mean: `0` or `/dev/video0` is a camera, `rtsp://…` a stream, all else a file.

        Raises:
            MediaError: an address of a kind that is not taken.
        """
        text = str(given)
        if text.isdecimal():
            return cls("camera", f"/dev/video{int(text)}")
        if _DEVICE.fullmatch(text):
            return cls("camera", text)
        if "://" not in text:
            return cls("file", text)
        protocol = text.partition("://")[0].lower()
        if protocol not in PROTOCOLS:
            raise MediaError(
                f"{text}: {protocol} is no kind of stream that is taken; allowed are {', '.join(PROTOCOLS)}, a camera "
                "(0 or /dev/video0), or a file"
            )
        return cls("stream", text)

    @property
    def label(self) -> str:
        """The address without user name and password, for messages and records."""
        return re.sub(r"^([a-z]+://)[^/@]*@", r"\1", self.address, flags=re.IGNORECASE)

    @property
    def goes_on(self) -> bool:
        """Whether it should never end, so that an end is a break."""
        return self.kind != "file"

    def check(self) -> None:
        """Look whether it is there, as far as that takes no time; a stream is not asked.

        Raises:
            MediaError: the camera or file is not there, or not what it should be.
        """
        if self.kind == "camera":
            _check_camera(self.address)
        elif self.kind == "file":
            MediaFile(self.address).close()

    def open(self) -> Any:
        """Open it; returns PyAV's container.

        Raises:
            MediaError: it is not there, does not answer, or sends what is not taken.
        """
        import av

        if self.kind == "file":
            return MediaFile(self.address).container
        av.logging.set_level(None)
        if self.kind == "camera":
            _check_camera(self.address)
        try:
            if self.kind == "camera":
                return av.open(self.address, format="v4l2", timeout=OPEN_SECONDS)
            protocol = self.address.partition("://")[0].lower()
            options = {
                "protocol_whitelist": PROTOCOLS[protocol],
                "format_whitelist": ",".join(_STREAM_FORMATS),
                "fflags": "nobuffer",
            }
            return av.open(self.address, container_options=options, timeout=OPEN_SECONDS, metadata_errors="ignore")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            what = "camera" if self.kind == "camera" else "stream"
            raise MediaError(
                f"{self.label}: the {what} cannot be opened ({reason}): check the address, and that it plays elsewhere"
            ) from error


def _check_camera(device: str) -> None:
    try:
        mode = Path(device).stat().st_mode
    except OSError as error:
        there = sorted(str(path) for path in Path("/dev").glob("video*"))
        raise MediaError(
            f"{device}: {error.strerror}; cameras here: {', '.join(there) or 'none'}: plug one in, or give a stream or "
            "a file"
        ) from error
    if not stat.S_ISCHR(mode):
        raise MediaError(f"{device}: is no camera but a file: check the device")
