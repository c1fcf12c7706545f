"""Reads 64 numbers from 0 (paper) to 16 (ink) from standard input, an 8 × 8 picture of a digit, and prints what digit
it is.

    python digits.py digits.onnx < picture.txt
"""

import sys

import apus
import numpy as np


def main() -> None:
    session = apus.InferenceSession(sys.argv[1])
    pixels = np.loadtxt(sys.stdin, dtype=np.float32).reshape(1, 1, 8, 8) / 16
    (scores,) = session.run(["probabilities"], {"input": pixels})
    digit = int(scores[0].argmax())
    print(f"{digit} ({100 * scores[0, digit]:.1f} %)")


if __name__ == "__main__":
    main()
