// The register tiles of the float32 GEMM for AVX2: sixteen vector registers.
#pragma once

#define GEMM_NV 2
#define GEMM_MR 6
#define GEMM_TILES \
  TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1) \
  TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2) TILE(1, 4) TILE(2, 4) TILE(1, 8)
