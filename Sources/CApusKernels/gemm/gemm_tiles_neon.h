// The register tiles of the float32 GEMM for NEON: thirty-two vector registers of four lanes.
#pragma once

#define GEMM_NV 4
#define GEMM_MR 6
// With more than one term at a time the sums do not stay in registers. One request is enough for a line of the cache.
#define GEMM_UNROLL "clang loop unroll(disable)"
#define GEMM_PREFETCHES(v) ((size_t)(v) * VL * sizeof(GEMM_B) % CACHE_LINE == 0)
#define GEMM_TILES \
  TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1) \
  TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2) \
  TILE(1, 3) TILE(2, 3) TILE(3, 3) TILE(4, 3) TILE(5, 3) TILE(6, 3) \
  TILE(1, 4) TILE(2, 4) TILE(3, 4) TILE(4, 4) TILE(5, 4) TILE(6, 4) TILE(1, 8) TILE(2, 8) TILE(1, 16)
