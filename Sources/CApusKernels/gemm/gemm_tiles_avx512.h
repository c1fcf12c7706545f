// The register tiles of the float32 GEMM for AVX-512: thirty-two vector registers.
#pragma once

#define GEMM_NV 2
#define GEMM_MR 14
#define GEMM_TILES \
  TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1) TILE(7, 1) TILE(8, 1) TILE(9, 1) TILE(10, 1) \
  TILE(11, 1) TILE(12, 1) TILE(13, 1) TILE(14, 1) \
  TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2) TILE(7, 2) TILE(8, 2) TILE(9, 2) TILE(10, 2) \
  TILE(11, 2) TILE(12, 2) TILE(13, 2) TILE(14, 2) \
  TILE(1, 4) TILE(2, 4) TILE(3, 4) TILE(4, 4) TILE(1, 8) TILE(2, 8) TILE(3, 8)
