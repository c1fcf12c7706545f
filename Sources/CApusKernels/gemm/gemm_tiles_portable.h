// The register tiles of the float32 GEMM for any machine.
#pragma once

#define GEMM_NV 4
#define GEMM_MR 4
#define GEMM_TILES \
  TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) \
  TILE(1, 3) TILE(2, 3) TILE(3, 3) TILE(4, 3) TILE(1, 4) TILE(2, 4) TILE(3, 4) TILE(4, 4)
