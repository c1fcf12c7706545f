// The micro-kernels of Apus: one table of function pointers per instruction-set level, filled once.
//
// Common to all kernels:
//  - they never allocate, block, or start threads, and touch nothing but the memory named by their arguments;
//  - pointers need only the alignment of their element type, or none where `void *` is written;
//  - ranges: a kernel reads and writes exactly the elements its contract names. Packed operands may be read up to the
// end
//    of their padded size;
//  - determinism: the bits of an output element depend on the inputs, the shapes and the level, not on how the work
//    was split into calls.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apus_activation.h"
#include "apus_gemm.h"
#include "apus_gemm_f64.h"
#include "apus_gemm_i8.h"
#include "apus_vector.h"
#include "apus_window.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  APUS_LEVEL_PORTABLE = 0,
  APUS_LEVEL_AVX2 = 1,    // AVX2, FMA, F16C
  APUS_LEVEL_AVX512 = 2,  // AVX-512 F, BW, DQ, VL, on top of AVX2; VNNI and BF16 where features says so
} apus_level;

typedef enum {
  APUS_FEATURE_AVX512_VNNI = 1,
  APUS_FEATURE_AVX512_BF16 = 2,
} apus_features;

// Immutable once filled, hence Sendable.
typedef struct __attribute__((swift_attr("@Sendable"))) {
  apus_level level;
  uint32_t features;     // apus_features that the kernels of this table use
  const char *_Nonnull name;  // "portable", "avx2", "avx512"
  size_t gemm_f32_nr;    // columns of a packed panel
  size_t gemm_f32_mr;    // rows of a full register tile: cutting work at multiples of it is best
  size_t gemm_i8_nr;
  size_t gemm_i8_mr;
#define APUS_KERNEL(type, name) type *_Nonnull name;
#include "kernels.inc"
} apus_kernel_table;

#pragma clang assume_nonnull begin

// The table for the best level of this machine, or for the lower level that the environment variable APUS_ISA names
// ("portable", "avx2", "avx512"). Safe to call from any thread; the same pointer until apus_force_level is called.
const apus_kernel_table *apus_kernels(void);

// The table of one level, or NULL where the machine or the build does not have it.
const apus_kernel_table *_Nullable apus_kernels_for(apus_level level);

// Lets apus_kernels() give the table of another level; false, and no change, where there is none. For tests: nothing
// may be running, and what was prepared under one level must not run under another.
bool apus_force_level(apus_level level);

// The kernels of kernels.inc as data, for tests and benchmarks. index < apus_kernel_count().
size_t apus_kernel_count(void);
const char *apus_kernel_name(size_t index);

// The float32 unary kernels among them, with their stated error in units of the last place of the exact result, or with
// error_of_input of the larger of |x| and 1.
typedef struct {
  const char *name;
  apus_unary_f32_fn *function;
  double max_ulp;
  bool error_of_input;
} apus_unary_f32_entry;
size_t apus_unary_f32_count(void);
apus_unary_f32_entry apus_unary_f32_at(const apus_kernel_table *table, size_t index);

#pragma clang assume_nonnull end
#ifdef __cplusplus
}
#endif
