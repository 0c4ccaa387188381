"""A drawn talking face: canonical picture of the head, features on top, one warp for pose and jaw.

Each frame is made in three steps. The still parts (wall, clothes, shaded head, nose, hair) are painted once per
speaker on a canonical canvas. Per frame the moving features (eyes, brows, mouth) are drawn on a copy. Then one
`cv2.remap` turns the head: sampling positions are a linear combination of precomputed displacement fields (shift,
roll, depth times yaw, depth times pitch, jaw drop), so that a turn shifts near parts of the face more than far ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mmsa.demo.speakers import Colour, Speaker

FRAME_PIXELS = 320
_SCALE = 1.5
_CANVAS = int(FRAME_PIXELS * _SCALE)
_SHIFT = 4
_COARSE_SIGMA = 8.0
_CENTRE = (_CANVAS / 2, _CANVAS * 0.455)

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Points = NDArray[Any]


@dataclass(frozen=True)
class FaceState:
    """What the face does at one moment.

    Attributes:
        smile: -1 corners of the mouth down, 0 rest, 1 a broad smile.
        brow: -1 lowered and drawn together, 0 rest, 1 raised.
        jaw: 0 closed, 1 wide open.
        rounding: 0 lips spread, 1 lips rounded.
        eyes: 0 shut, 1 open at rest; above 1 is wide.
        yaw: turn of the head in radians, positive to the picture's right.
        pitch: nod in radians, positive down.
        roll: tilt in radians, positive clockwise.
        shift_x: movement of the head to the right, in half face widths.
        shift_y: movement of the head down, in half face widths.
        gaze_x: -1 left, 1 right.
        gaze_y: -1 up, 1 down.
    """

    smile: float = 0.0
    brow: float = 0.0
    jaw: float = 0.0
    rounding: float = 0.0
    eyes: float = 1.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    shift_x: float = 0.0
    shift_y: float = 0.0
    gaze_x: float = 0.0
    gaze_y: float = 0.0


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def _dark(colour: Colour, factor: float) -> Colour:
    return _mix((0, 0, 0), colour, factor)


def _blend(image: Floats, mask: Floats, colour: Colour) -> None:
    """Mix a colour in where the mask is not zero; most masks are small, so only their bounding box is touched."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    image[box] += mask[box][..., None] * (np.asarray(colour, np.float32) - image[box])


class FacePainter:
    """Paints one speaker.

    Example:
        >>> from mmsa.demo.speakers import SPEAKERS
        >>> FacePainter(SPEAKERS[0]).paint(FaceState(smile=0.5)).shape
        (320, 320, 3)
    """

    def __init__(self, speaker: Speaker) -> None:
        self.look = speaker.look
        self._unit = speaker.look.half_width_pixels * _SCALE
        self._rng = np.random.default_rng([7, int(speaker.id[1:])])
        grid_y, grid_x = np.mgrid[0:_CANVAS, 0:_CANVAS].astype(np.float32)
        self._x = (grid_x - _CENTRE[0]) / self._unit
        self._y = (grid_y - _CENTRE[1]) / self._unit
        self._head = self._head_mask()
        wall = self._paint_wall()
        self._wall = np.asarray(wall.clip(0, 255), np.uint8)
        self._still = self._paint_still(wall)
        self._fields_x, self._fields_y = self._displacements()

    # --- geometry -----------------------------------------------------------------------------------------------

    def _pixels(self, points: Points) -> NDArray[np.int32]:
        """Points (N, 2) in half face widths to fixed-point pixels of the canvas."""
        scaled = (points * self._unit + np.asarray(_CENTRE)) * (1 << _SHIFT)
        return np.asarray(np.round(scaled), np.int32)

    def _fill(self, image: Image | Floats, points: Points, colour: Colour | float) -> None:
        cv2.fillPoly(image, [self._pixels(points)], colour, cv2.LINE_AA, _SHIFT)

    def _line(self, image: Image | Floats, points: Points, colour: Colour | float, width: float) -> None:
        thick = max(1, round(width * self._unit))
        cv2.polylines(image, [self._pixels(points)], False, colour, thick, cv2.LINE_AA, _SHIFT)

    def _soft(self, points: Points, blur: float, line: float = 0.0) -> Floats:
        """A blurred mask (canvas, canvas) in 0..1 of a polygon, or of a line of the given width."""
        mask = np.zeros((_CANVAS, _CANVAS), np.uint8)
        if line:
            self._line(mask, points, 255, line)
        else:
            self._fill(mask, points, 255)
        sigma = max(blur * self._unit, 0.6)
        if sigma > _COARSE_SIGMA:  # so wide a blur leaves nothing that a quarter of the pixels cannot hold
            small = cv2.resize(mask, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            blurred = cv2.resize(cv2.GaussianBlur(small, (0, 0), sigma / 4), mask.shape[::-1])
        else:
            blurred = self._blur_around(mask, points, sigma)
        return np.asarray(blurred, np.float32) / 255

    def _blur_around(self, mask: Image, points: Points, sigma: float) -> Image:
        """Blur the part of the mask that the polygon's blurred edge can reach."""
        reach = int(4 * sigma) + 8
        pixels = self._pixels(points) >> _SHIFT
        left, top = np.clip(pixels.min(axis=0) - reach, 0, _CANVAS)
        right, bottom = np.clip(pixels.max(axis=0) + reach, 0, _CANVAS)
        mask[top:bottom, left:right] = cv2.GaussianBlur(mask[top:bottom, left:right], (0, 0), sigma)
        return mask

    def _outline(self) -> Points:
        """The face's outline: a half ellipse above the eyes, a squarer taper to the chin below."""
        angle = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        x, y = np.cos(angle), np.sin(angle)
        below = y > 0
        top = self.look.height * 0.97
        drop = np.where(below, y * self.look.height, y * top)
        narrowing = 1 - (1 - self.look.jaw) * np.clip(y, 0, 1) ** 1.5 * 0.8
        squarer = np.sign(x) * np.abs(x) ** np.where(below, 0.85, 0.95)
        return np.stack([squarer * narrowing, drop], 1)

    def _head_mask(self) -> Floats:
        return self._soft(self._outline(), 0.012)

    def _ellipse(self, x: float, y: float, rx: float, ry: float, n: int = 40, tilt: float = 0.0) -> Points:
        angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
        px, py = np.cos(angle) * rx, np.sin(angle) * ry
        cos, sin = np.cos(tilt), np.sin(tilt)
        return np.stack([x + px * cos - py * sin, y + px * sin + py * cos], 1)

    # --- still parts --------------------------------------------------------------------------------------------

    def _paint_wall(self) -> Floats:
        look, rng = self.look, self._rng
        light = 1.08 - 0.28 * np.linspace(0, 1, _CANVAS, dtype=np.float32)[:, None, None]
        image = np.ones((_CANVAS, _CANVAS, 1), np.float32) * np.asarray(look.wall, np.float32) * light
        for _ in range(4):
            x, y = rng.uniform(-2.4, 2.4), rng.uniform(-1.8, 1.0)
            blob = self._soft(self._ellipse(x, y, rng.uniform(0.3, 0.8), rng.uniform(0.3, 0.9)), 0.2)
            _blend(image, blob * 0.35, _dark(look.wall, rng.uniform(0.6, 1.3)))
        return image

    def _paint_still(self, wall: Floats) -> Image:
        image = wall.copy()
        self._paint_back_hair(image)
        self._paint_body(image)
        self._paint_head(image)
        self._paint_nose(image)
        self._paint_hair(image)
        noise = self._rng.standard_normal((_CANVAS, _CANVAS, 1), np.float32) * 1.2
        grain = cv2.GaussianBlur(noise, (0, 0), 0.8)[..., None]
        return np.asarray((image + grain).clip(0, 255), np.uint8)

    def _paint_back_hair(self, image: Floats) -> None:
        look = self.look
        if look.style == "long":
            mask = self._soft(self._ellipse(0, 0.25, 1.22, 1.9), 0.03)
        elif look.style == "bob":
            mask = self._soft(self._ellipse(0, -0.1, 1.24, 1.38), 0.03)
        else:
            return
        shade = 0.75 - 0.12 * np.cos(self._x * 26 + np.sin(self._y * 3))
        image += (mask[..., None]) * (np.asarray(look.hair, np.float32) * shade[..., None] - image)

    def _paint_body(self, image: Floats) -> None:
        look = self.look
        neck_y = look.height
        neck = np.array([[-0.5, 0.5], [0.5, 0.5], [0.56, neck_y + 0.5], [-0.56, neck_y + 0.5]])
        _blend(image, self._soft(neck, 0.02), _dark(look.skin, 0.82))
        _blend(image, self._soft(self._ellipse(0, neck_y - 0.02, 0.62, 0.22), 0.08) * 0.5, _dark(look.skin, 0.5))
        y = neck_y + 0.28
        side = np.array([[0.5, y], [0.95, y + 0.12], [1.65, y + 0.34], [2.0, y + 0.8], [2.1, 5.0]])
        collar = np.array([[-0.5, y], [-0.3, y + 0.22], [0.0, y + 0.32], [0.3, y + 0.22]])
        shoulders = np.concatenate([collar, side, side[::-1] * [-1, 1]])
        _blend(image, self._soft(shoulders, 0.012), look.clothes)
        _blend(image, self._soft(collar, 0.03, line=0.06) * 0.6, _dark(look.clothes, 0.6))
        folds = np.array([[-0.9, y + 0.3], [-0.7, y + 0.9]])
        for fold in (folds, folds * [-1, 1]):
            _blend(image, self._soft(fold, 0.05, line=0.06) * 0.4, _dark(look.clothes, 0.6))

    def _paint_head(self, image: Floats) -> None:
        look = self.look
        for side in (-1, 1):
            _blend(image, self._soft(self._ellipse(side * 1.0, 0.12, 0.13, 0.27), 0.012), _dark(look.skin, 0.88))
            _blend(image, self._soft(self._ellipse(side * 1.02, 0.12, 0.06, 0.16), 0.03) * 0.6, _dark(look.skin, 0.6))
        radius2 = np.clip(self._x**2 + (self._y / look.height) ** 2, 0, 1)
        depth = np.sqrt(1 - radius2)
        shade = 0.70 + 0.36 * depth + 0.13 * look.light * self._x * (1 - 0.3 * depth) - 0.05 * self._y
        skin = np.asarray(look.skin, np.float32) * shade[..., None]
        image += self._head[..., None] * (skin - image)
        for side in (-1, 1):
            socket = self._ellipse(side * look.eye_gap, -0.03, look.eye_size * 1.5, 0.2)
            _blend(image, self._soft(socket, 0.07) * 0.3, _dark(look.skin, 0.6))
            cheek = self._ellipse(side * 0.55, look.nose_length - 0.06, 0.25, 0.18)
            _blend(image, self._soft(cheek, 0.1) * 0.25, _mix(look.skin, (214, 96, 84), 0.6))
            fold = np.array([[0.26, look.nose_length - 0.02], [0.40, look.mouth_drop - 0.12], [0.45, look.mouth_drop]])
            _blend(image, self._soft(fold * [side, 1], 0.03, line=0.03) * 0.25, _dark(look.skin, 0.55))
        chin = self._ellipse(0, look.mouth_drop + 0.32, 0.24, 0.14)
        _blend(image, self._soft(chin, 0.08) * 0.25, _mix(look.skin, (255, 255, 255), 0.4))
        under_lip = self._ellipse(0, look.mouth_drop + 0.2, 0.24, 0.045)
        _blend(image, self._soft(under_lip, 0.04) * 0.45, _dark(look.skin, 0.5))
        forehead = self._ellipse(0.1 * look.light, -0.62, 0.5, 0.18)
        _blend(image, self._soft(forehead, 0.14) * 0.2, (255, 246, 236))

    def _paint_nose(self, image: Floats) -> None:
        look = self.look
        base, width, shade_side = look.nose_length, look.nose_width, -np.sign(look.light)
        bridge = np.array([[0.13, -0.2], [0.09, 0.1], [width * 0.8, base - 0.14]]) * [shade_side, 1]
        _blend(image, self._soft(bridge, 0.035, line=0.07) * 0.5, _dark(look.skin, 0.55))
        _blend(image, self._soft(bridge * [-1, 1], 0.035, line=0.04) * 0.22, _dark(look.skin, 0.55))
        ridge = np.array([[0.0, -0.15], [0.0, base - 0.1]])
        _blend(image, self._soft(ridge, 0.03, line=0.06) * 0.4, _mix(look.skin, (255, 255, 255), 0.5))
        _blend(
            image,
            self._soft(self._ellipse(0, base - 0.08, 0.09, 0.07), 0.04) * 0.5,
            _mix(look.skin, (255, 255, 255), 0.5),
        )
        for side in (-1, 1):
            wing = self._ellipse(side * width, base - 0.04, 0.05, 0.08)
            _blend(image, self._soft(wing, 0.025) * 0.5, _dark(look.skin, 0.6))
            nostril = self._ellipse(side * width * 0.55, base + 0.005, 0.05, 0.026)
            _blend(image, self._soft(nostril, 0.012) * 0.85, _dark(look.skin, 0.25))
        under = self._ellipse(0, base + 0.05, width * 1.0, 0.05)
        _blend(image, self._soft(under, 0.04) * 0.5, _dark(look.skin, 0.5))

    def _paint_hair(self, image: Floats) -> None:
        look = self.look
        top = -look.height
        low = {"short": -0.18, "cropped": -0.32, "long": 0.55, "bob": 0.45}[look.style]
        rise = {"short": 0.16, "cropped": 0.06, "long": 0.14, "bob": 0.2}[look.style]
        angle = np.linspace(np.pi, 2 * np.pi, 40)
        crown = np.stack([np.cos(angle) * (1.06 + rise * 0.3), np.sin(angle) * (-top + rise * 0.6)], 1)
        inner_x = np.array([1.0, 0.9, 0.78, 0.5, 0.1, -0.35, -0.75, -0.9, -1.0])
        hairline = -0.82 if look.style != "cropped" else -0.88
        inner_y = np.array(
            [low, low - 0.12, hairline + 0.28, hairline + 0.03, hairline - 0.06, hairline, hairline + 0.28]
        )
        inner_y = np.concatenate([inner_y, [low - 0.12, low]])
        mask = self._soft(np.concatenate([crown, np.stack([inner_x, inner_y], 1)]), 0.015)
        strands = 1 - 0.16 * np.cos(self._x * 22 + 2.5 * np.cos(self._y * 4)) - 0.14 * (self._y + 1)
        shine = np.exp(-(((self._y + 1.1 - 0.2 * self._x**2) / 0.12) ** 2)) * 30
        colour = np.asarray(look.hair, np.float32) * strands[..., None] + shine[..., None]
        shadow = np.roll(mask, round(0.07 * self._unit), axis=0) * self._head
        _blend(image, cv2.GaussianBlur(shadow, (0, 0), 0.03 * self._unit) * 0.35, _dark(look.skin, 0.45))
        image += mask[..., None] * (colour - image)

    # --- warp ---------------------------------------------------------------------------------------------------

    def _displacements(self) -> tuple[Floats, Floats]:
        """Fields (K, pixels) whose weighted sums are the sampling positions; weights are made by `_weights`."""
        size = (FRAME_PIXELS, FRAME_PIXELS)
        x = cv2.resize(self._x, size, interpolation=cv2.INTER_AREA)
        y = cv2.resize(self._y, size, interpolation=cv2.INTER_AREA)
        chin = self.look.height
        follow = 1 / (1 + np.exp((y - chin - 0.45) / 0.14))
        follow *= 1 / (1 + np.exp((np.hypot(x, y * 0.8) - 1.75) / 0.14))
        near = np.sqrt(np.clip(1 - x**2 - (y / chin) ** 2, 0, 1)) + 0.35 * np.exp(
            -((x / 0.22) ** 2) - (((y - self.look.nose_length + 0.1) / 0.25) ** 2)
        )
        depth = cv2.GaussianBlur(near.astype(np.float32), (0, 0), 0.1 * self.look.half_width_pixels) - 0.25
        below = np.clip((y - self.look.mouth_drop + 0.02) / 0.28, 0, 1)
        drop = below * below * (3 - 2 * below) / (1 + np.exp((y - chin - 0.14) / 0.06))
        drop *= np.clip(1.25 - np.abs(x), 0, 1)
        zero = np.zeros_like(x)
        one_x = [x * self._unit + _CENTRE[0], follow, follow * y, follow * depth, zero]
        one_y = [y * self._unit + _CENTRE[1], follow, follow * x, follow * depth, drop]
        stack_x, stack_y = (np.stack([f.ravel() for f in fields]).astype(np.float32) for fields in (one_x, one_y))
        return stack_x, stack_y

    def _warp(self, canvas: Image, state: FaceState) -> Image:
        unit = self._unit
        weights_x = np.array([1, -state.shift_x * unit, state.roll * unit, -np.sin(state.yaw) * unit, 0])
        weights_y = np.array(
            [1, -state.shift_y * unit, -state.roll * unit, -np.sin(state.pitch) * unit, -0.13 * state.jaw * unit]
        )
        shape = (FRAME_PIXELS, FRAME_PIXELS)
        map_x = (weights_x.astype(np.float32) @ self._fields_x).reshape(shape)
        map_y = (weights_y.astype(np.float32) @ self._fields_y).reshape(shape)
        warped: Image = cv2.remap(canvas, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return warped

    # --- moving features ----------------------------------------------------------------------------------------

    def _draw_eye(self, canvas: Image, side: int, state: FaceState) -> None:
        look = self.look
        size, centre_x = look.eye_size, side * look.eye_gap
        t = np.linspace(-1, 1, 13)
        bow = 1 - np.abs(t) ** 2.2
        open_up = 0.46 * size * state.eyes
        open_down = 0.30 * size * min(state.eyes, 1.0) * (1 - 0.45 * max(state.smile, 0.0))
        slant = -0.03 * t * side
        upper = np.stack([centre_x + t * size, slant - bow * open_up + 0.02], 1)
        lower = np.stack([centre_x + t * size, slant + bow * open_down + 0.02], 1)
        almond = np.concatenate([upper, lower[::-1]])
        if state.eyes > 0.12:
            self._draw_eyeball(canvas, almond, centre_x, state)
        crease = upper - [0, 0.05 + 0.02 * state.eyes]
        self._line(canvas, crease[2:-2], _dark(look.skin, 0.66), 0.014)
        self._line(canvas, lower[1:-1], _dark(look.skin, 0.55), 0.014)
        self._line(canvas, upper, _dark(look.hair, 0.35), 0.035)

    def _draw_eyeball(self, canvas: Image, almond: Points, x: float, state: FaceState) -> None:
        size = self.look.eye_size
        corner = self._pixels(almond) >> _SHIFT
        (left, top), (right, bottom) = corner.min(0) - 2, corner.max(0) + 3
        patch = canvas[top:bottom, left:right].copy()
        mask = np.zeros(canvas.shape[:2], np.uint8)[top:bottom, left:right]
        offset = np.array([left, top], np.int32) << _SHIFT
        cv2.fillPoly(mask, [self._pixels(almond) - offset], 255, cv2.LINE_AA, _SHIFT)
        patch[:] = (232, 228, 224)
        patch[: max(2, (bottom - top) // 4)] = (196, 190, 186)
        pupil = np.array([[x + 0.30 * size * state.gaze_x, 0.005 + 0.12 * size * state.gaze_y]])
        spot = self._pixels(pupil) - offset
        centre = (int(spot[0, 0]), int(spot[0, 1]))
        for share, colour in ((0.46, _dark(self.look.iris, 0.6)), (0.40, self.look.iris), (0.19, (12, 10, 10))):
            cv2.circle(patch, centre, round(share * size * self._unit * 16), colour, -1, cv2.LINE_AA, _SHIFT)
        glint = (centre[0] + round(0.12 * size * self._unit * 16), centre[1] - round(0.14 * size * self._unit * 16))
        cv2.circle(patch, glint, round(0.08 * size * self._unit * 16), (250, 250, 250), -1, cv2.LINE_AA, _SHIFT)
        weight = mask[..., None].astype(np.uint16)
        under = canvas[top:bottom, left:right].astype(np.uint16)
        canvas[top:bottom, left:right] = (patch.astype(np.uint16) * weight + under * (255 - weight)) // 255

    def _draw_brow(self, canvas: Image, side: int, state: FaceState) -> None:
        look = self.look
        t = np.linspace(0, 1, 9)
        inner, outer = look.eye_gap - look.eye_size * 1.05, look.eye_gap + look.eye_size * 1.35
        frown = max(-state.brow, 0.0)
        lift = 0.105 * state.brow if state.brow > 0 else 0.09 * state.brow
        x = inner + (outer - inner) * t - 0.05 * frown * (1 - t)
        arch = 0.07 * np.sin(np.pi * np.clip(t * 0.85 + 0.1, 0, 1))
        y = -look.brow_height - lift - arch + 0.07 * frown * (1 - t) ** 1.5 + 0.02 * t
        half = look.brow_weight * (0.55 - 0.38 * t**1.5) * 1.1
        points = np.concatenate([np.stack([x, y - half], 1), np.stack([x, y + half], 1)[::-1]])
        colour = _mix(_dark(look.hair, 0.7), look.skin, 0.12)
        self._fill(canvas, points * [side, 1], colour)
        if frown > 0.2 and side == 1:
            for s in (-1, 1):
                line = np.array([[0.07 * s, -0.30], [0.06 * s, -0.14]])
                self._line(canvas, line, _mix(look.skin, _dark(look.skin, 0.5), 0.7 * frown), 0.02)

    def _lip_curves(self, state: FaceState) -> tuple[Points, ...]:
        """Outer upper, inner upper, inner lower and outer lower lip, each (13, 2), left to right."""
        look = self.look
        stretch = 0.24 * state.smile if state.smile > 0 else 0.13 * state.smile
        width = look.mouth_width * (1 + stretch - 0.30 * state.rounding - 0.05 * state.jaw)
        t = np.linspace(-1, 1, 13)
        bow = 1 - np.abs(t) ** 2
        lift = (-0.17 if state.smile > 0 else -0.13) * state.smile * np.abs(t) ** 1.6
        middle = look.mouth_drop + 0.05 * max(state.smile, 0.0) + lift
        gap = 0.30 * state.jaw
        thick = look.lip * (1 - 0.2 * max(state.smile, 0.0) + 0.25 * state.rounding)
        cupid = 0.22 * np.exp(-((t / 0.16) ** 2)) - 0.08
        inner_up = middle - bow * gap * 0.22
        inner_down = middle + bow * gap * 0.78
        outer_up = inner_up - thick * (bow**0.8) * (1 - cupid)
        outer_down = inner_down + thick * 1.25 * (bow**0.7)
        x = t * width
        return tuple(np.stack([x, y], 1) for y in (outer_up, inner_up, inner_down, outer_down))

    def _draw_mouth(self, canvas: Image, state: FaceState) -> None:
        look = self.look
        outer_up, inner_up, inner_down, outer_down = self._lip_curves(state)
        red = _mix(look.skin, (168, 56, 60), 0.52)
        self._fill(canvas, np.concatenate([outer_up, inner_up[::-1]]), _dark(red, 0.86))
        self._fill(canvas, np.concatenate([inner_down, outer_down[::-1]]), red)
        shine = inner_down[4:9] + (outer_down - inner_down)[4:9] * 0.45
        self._line(canvas, shine, _mix(red, (255, 235, 230), 0.3), 0.025)
        hole = np.concatenate([inner_up, inner_down[::-1]])
        if state.jaw > 0.04:
            self._fill(canvas, hole, (52, 18, 20))
            shown = 0.03 + 0.045 * float(np.clip(state.smile + 0.4, 0, 1))
            teeth_low = inner_up + np.minimum(shown, 0.6 * (inner_down - inner_up)) * [0, 1]
            self._fill(canvas, np.concatenate([inner_up, teeth_low[::-1]])[1:-1], (226, 220, 212))
            if state.jaw > 0.3:
                tongue = inner_down - (inner_down - inner_up) * [0, 0.3]
                self._fill(canvas, np.concatenate([tongue[3:10], inner_down[3:10][::-1]]), (150, 70, 72))
        else:
            self._line(canvas, inner_up, _dark(red, 0.45), 0.022)
        for corner in (inner_up[:1], inner_up[-1:]):
            spot = self._pixels(corner)[0]
            cv2.circle(
                canvas,
                (int(spot[0]), int(spot[1])),
                round(0.02 * self._unit * 16),
                _dark(red, 0.5),
                -1,
                cv2.LINE_AA,
                _SHIFT,
            )

    def _draw_folds(self, canvas: Image, state: FaceState) -> None:
        """Folds from the nose to the corners of a smiling mouth."""
        look = self.look
        if state.smile < 0.15:
            return
        colour = _mix(look.skin, _dark(look.skin, 0.6), 0.55 * min(state.smile, 1.0))
        x = look.nose_width + 0.07
        fold = np.array(
            [[x, look.nose_length - 0.02], [x + 0.17, look.mouth_drop - 0.2], [x + 0.25, look.mouth_drop - 0.03]]
        )
        for side in (-1, 1):
            self._line(canvas, fold * [side, 1], colour, 0.02)

    def paint(self, state: FaceState) -> Image:
        """The picture (320, 320, 3), RGB."""
        canvas = self._still.copy()
        self._draw_folds(canvas, state)
        for side in (-1, 1):
            self._draw_eye(canvas, side, state)
            self._draw_brow(canvas, side, state)
        self._draw_mouth(canvas, state)
        return self._warp(canvas, state)

    def paint_empty(self) -> Image:
        """The wall without anybody in front of it, (320, 320, 3), RGB."""
        return np.asarray(cv2.resize(self._wall, (FRAME_PIXELS, FRAME_PIXELS), interpolation=cv2.INTER_AREA), np.uint8)
