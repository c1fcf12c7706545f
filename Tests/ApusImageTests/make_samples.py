#!/usr/bin/env python3
"""Writes the pictures of Samples/ with Pillow. Every picture is 7 wide and 5 high; ImageTests.swift has the same
formula."""

import pathlib

import numpy
from PIL import Image

SAMPLES = pathlib.Path(__file__).parent / "Samples"


def picture(channels: int) -> Image.Image:
    row, column, channel = numpy.indices((5, 7, channels))
    samples = ((row * 37 + column * 53 + channel * 91) % 256).astype(numpy.uint8)
    return Image.fromarray(samples[:, :, 0] if channels == 1 else samples)


def main() -> None:
    SAMPLES.mkdir(exist_ok=True)
    for ending, options in {
        "png": {},
        "bmp": {},
        "ppm": {},
        "tif": {"compression": "tiff_lzw"},
        "webp": {"lossless": True, "exact": True},
        "jp2": {},
        "j2k": {"no_jp2": True},
    }.items():
        for channels in (1, 3, 4):
            if channels == 4 and ending == "ppm" or channels == 1 and ending == "webp":
                continue
            picture(channels).save(SAMPLES / f"{channels}.{ending}", **options)
    picture(3).save(SAMPLES / "3.jpg", quality=95, subsampling=0)
    picture(3).save(SAMPLES / "progressive.jpg", quality=95, subsampling=0, progressive=True)
    picture(3).quantize(64).save(SAMPLES / "palette.png")
    picture(1).convert("1").save(SAMPLES / "bits.tif", compression="group4")


if __name__ == "__main__":
    main()
