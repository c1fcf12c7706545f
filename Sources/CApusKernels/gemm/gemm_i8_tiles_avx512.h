// The register tiles of the 8-bit GEMM for AVX-512 with VNNI.
#pragma once

#define I8_NR 32
#define I8_MR 12
#define I8_GROUP_BYTES (512 * 1024)
#define I8_TILES \
  TILE(1, 16) TILE(2, 16) TILE(3, 16) TILE(4, 16) TILE(5, 16) TILE(6, 16) TILE(7, 16) TILE(8, 16) TILE(9, 16) \
  TILE(10, 16) TILE(11, 16) TILE(12, 16) \
  TILE(1, 32) TILE(2, 32) TILE(3, 32) TILE(4, 32) TILE(5, 32) TILE(6, 32) TILE(7, 32) TILE(8, 32) TILE(9, 32) \
  TILE(10, 32) TILE(11, 32) TILE(12, 32) TILE(1, 128) TILE(2, 128) TILE(3, 128) TILE(4, 64)
