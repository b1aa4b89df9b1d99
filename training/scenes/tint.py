"""Tinting: the same drawing in another colour."""

import colorsys

import numpy as np
from numpy.typing import NDArray

from .places import COLOURS

Floats = NDArray[np.float32]
MIN_SATURATION = 0.3  # smallest saturation of a pixel with a clear hue
COLOURLESS = ("white", "gray", "black")
HUE_RADIUS = 0.13  # hues (0 to 1) this close to the main hue are tinted too


def tint(pixels: NDArray[np.uint8], colour: str, *, natural: str = "") -> NDArray[np.uint8]:
    """Replace the main colour of a drawing (`natural` if given); (height, width, 4) RGBA in and out.

    Things with a main hue keep their other colours; colourless things are tinted wherever they are bright.
    """
    rgba: Floats = pixels.astype(np.float32) / np.float32(255)
    hsv = to_hsv(rgba[..., :3])
    weight = main_colour_weights(hsv, rgba[..., 3], natural)[..., None]
    painted = to_rgb(repaint(hsv, colour))
    rgba[..., :3] += weight * (painted - rgba[..., :3])
    return np.asarray(np.round(rgba.clip(0, 1) * 255), dtype=np.uint8)


def main_colour_weights(hsv: Floats, alpha: Floats, natural: str) -> Floats:
    """How much each pixel belongs to the drawing's main colour: (height, width) in 0..1."""
    hue, saturation, value = hsv[..., 0], hsv[..., 1], hsv[..., 2]
    vivid = (saturation > MIN_SATURATION) & (value > 0.25) & (alpha > 0.5)
    if natural in COLOURLESS or vivid.sum() < 0.3 * (alpha > 0.5).sum():
        paleness: Floats = np.clip((value - 0.25) / 0.2, 0, 1) * np.clip((0.75 - saturation) / 0.2, 0, 1)
        return paleness
    counts = np.histogram(hue[vivid], 24, (0, 1))[0]
    counts = counts + np.roll(counts, 1) + np.roll(counts, -1)
    if natural:
        centre = int(24 * colorsys.rgb_to_hsv(*(part / 255 for part in COLOURS[natural]))[0])
        counts[[step % 24 for step in range(centre + 3, centre + 22)]] = 0
    main = (int(np.argmax(counts)) + 0.5) / 24
    distance = np.abs((hue - main + 0.5) % 1 - 0.5)
    weights: Floats = np.clip((HUE_RADIUS + 0.04 - distance) / 0.05, 0, 1) * np.clip((saturation - 0.12) / 0.15, 0, 1)
    return weights


def repaint(hsv: Floats, colour: str) -> Floats:
    """The picture in shades of one colour, with its light and shadow; HSV in 0..1 in and out."""
    red, green, blue = (part / 255 for part in COLOURS[colour])
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    light = hsv[..., 2]
    painted = np.empty_like(hsv)
    painted[..., 0] = hue
    if colour in COLOURLESS:
        low, span = {"black": (0.0, 0.3), "white": (0.66, 0.34), "gray": (0.12, 0.5)}[colour]
        painted[..., 1], painted[..., 2] = 0.04, low + span * light
        return painted
    painted[..., 1] = saturation * (0.75 + 0.25 * hsv[..., 1])
    painted[..., 2] = value * (0.3 + 0.75 * light)
    return painted.clip(0, 1)


def to_hsv(rgb: Floats) -> Floats:
    """RGB in 0..1 to HSV in 0..1, last axis of three."""
    top, span = rgb.max(-1), np.ptp(rgb, -1)
    safe = np.where(span < 1e-6, 1, span)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    sector = np.where(top == red, (green - blue) / safe % 6, (blue - red) / safe + 2)
    sector = np.where((top == blue) & (top != red) & (top != green), (red - green) / safe + 4, sector)
    saturation = span / np.maximum(top, 1e-6)
    return np.stack([np.where(span < 1e-6, 0, sector / 6), saturation, top], -1).astype(np.float32)


def to_rgb(hsv: Floats) -> Floats:
    """HSV in 0..1 to RGB in 0..1, last axis of three."""
    hue, saturation, value = hsv[..., 0] * 6, hsv[..., 1], hsv[..., 2]
    channels = []
    for offset in (5, 3, 1):
        k = (offset + hue) % 6
        channels.append(value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1))
    return np.stack(channels, -1).astype(np.float32)
