// The micro-kernels of Apus: a table of function pointers for a machine, filled once.
//
// Common to all kernels:
//  - they never allocate, block, or start threads, and touch nothing but the memory named by their arguments;
//  - pointers need only the alignment of their element type, or none where `void *` is written;
//  - ranges: a kernel reads and writes exactly the elements its contract names. Packed operands may be read up to the
// end
//    of their padded size;
//  - determinism: the bits of an output element depend on the inputs, the shapes and the machine, not on how the work
//    was split into calls.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "apus_activation.h"
#include "apus_codes.h"
#include "apus_gemm.h"
#include "apus_gemm_bf16.h"
#include "apus_gemm_f64.h"
#include "apus_gemm_i8.h"
#include "apus_gemm_nbits.h"
#include "apus_quantized.h"
#include "apus_peak.h"
#include "apus_vector.h"
#include "apus_planes.h"
#include "apus_window.h"
#include "apus_winograd.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
  APUS_LEVEL_PORTABLE = 0,
  APUS_LEVEL_AVX2 = 1,    // AVX2, FMA, F16C
  APUS_LEVEL_AVX512 = 2,  // AVX-512 F, BW, DQ, VL, on top of AVX2
  APUS_LEVEL_NEON = 3,    // every AArch64 machine
} apus_level;

// Instructions that a machine of some level may have beyond it.
typedef enum {
  APUS_FEATURE_AVX512_VNNI = 1,
  APUS_FEATURE_AVX512_BF16 = 2,
  APUS_FEATURE_AMX_INT8 = 4,  // with the tile registers themselves
  APUS_FEATURE_AVX512_VBMI = 8,
  APUS_FEATURE_AMX_BF16 = 16,
  APUS_FEATURE_AVX_VNNI = 32,  // dot products on vectors of AVX2
  APUS_FEATURE_NEON_DOTPROD = 64,
  APUS_FEATURE_NEON_I8MM = 128,
  APUS_FEATURE_NEON_BF16 = 256,
  // What kernels mean by them, whatever the machine is.
  APUS_FEATURES_DOT_PRODUCTS = APUS_FEATURE_AVX512_VNNI | APUS_FEATURE_AVX_VNNI | APUS_FEATURE_NEON_DOTPROD,
  APUS_FEATURES_BF16_PRODUCTS = APUS_FEATURE_AVX512_BF16 | APUS_FEATURE_NEON_BF16,
} apus_features;

// One way to compute a kernel, as kernels.inc has it.
typedef struct __attribute__((swift_attr("@Sendable"))) {
  size_t kernel;              // number of the kernel
  const char *_Nonnull name;  // the end of the function's name: "avx512vnni"
  apus_level level;           // the least level
  uint32_t features;          // apus_features that it needs beyond the level
  size_t rows, columns;       // the register tile; columns: of a packed panel. 0: there is none
} apus_variant;

// The kernels for one machine. Immutable once filled, hence Sendable.
typedef struct __attribute__((swift_attr("@Sendable"))) {
  apus_level level;
  uint32_t features;          // apus_features that the kernels of this table use
  const char *_Nonnull name;  // "portable", "avx2", "avx512", "neon"; "avx512-vnni" is an avx512 without VNNI
  size_t gemm_f32_nr;         // columns of a packed panel
  size_t gemm_f32_mr;         // rows of a full register tile: cutting work at multiples of it is best
  size_t gemm_i8_nr;
  size_t gemm_i8_mr;
  size_t gemm_bf16_nr;
  size_t gemm_bf16_mr;
  const apus_variant *_Nonnull const *_Nonnull variants;  // by number of the kernel
#define APUS_KERNEL(type, name, elements, variants) type *_Nonnull name;
#include "kernels.inc"
} apus_kernel_table;

#pragma clang assume_nonnull begin

// The table of this machine, or of the lesser one that the environment variable APUS_ISA names: a level of its
// architecture ("portable", "avx2", "avx512"; "portable", "neon"), or one less some features ("avx512-amx",
// "avx512-vnni-bf16"; "neon-i8mm"). A level that the machine does not have counts as none, and so does a name that
// means nothing, which apus_unknown_isa tells. Safe to call from any thread; the same pointer until apus_force_machine
// is called.
const apus_kernel_table *apus_kernels(void);

// The machines that this one can stand for, from the least: each level, and before it the same without one of the
// features that its kernels use. index < apus_machine_count().
size_t apus_machine_count(void);
const apus_kernel_table *apus_machine_at(size_t index);

// Lets apus_kernels() give another table, one of apus_machine_at. For tests: nothing may be running, and what was
// prepared under one table must not run under another.
void apus_force_machine(const apus_kernel_table *table);

// True if APUS_ISA can be `text`.
bool apus_isa_is_known(const char *text);

// The value of APUS_ISA in this process if it means nothing, cut to some length; NULL if it is known, empty or not set.
const char *_Nullable apus_unknown_isa(void);

// The levels of this architecture, from the least, index < apus_level_count().
size_t apus_level_count(void);
const char *apus_level_name(size_t index);

// The features that a name can be without, index < apus_feature_count().
size_t apus_feature_count(void);
const char *apus_feature_name(size_t index);
uint32_t apus_feature_bit(size_t index);

// The lines of kernels.inc as data, for tests and reports. index < apus_kernel_count().
typedef struct {
  const char *name;
  const char *type;      // of the function: "apus_unary_f32_fn"
  const char *elements;  // "f32", "u8 s8"
} apus_kernel_info;
size_t apus_kernel_count(void);
apus_kernel_info apus_kernel_at(size_t index);

// The function of a kernel in a table, to be called as the type that its line names.
typedef void apus_any_fn(void);
apus_any_fn *apus_kernel_function(const apus_kernel_table *table, size_t index);

// All variants that this build has, whether the machine can run them or not. index < apus_variant_count().
size_t apus_variant_count(void);
const apus_variant *apus_variant_at(size_t index);

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
