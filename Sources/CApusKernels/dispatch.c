// The tables of function pointers, one per level, and the choice among them.
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "isa.h"
#include "kernel_declarations.h"

static const apus_kernel_table portable = {
    .level = APUS_LEVEL_PORTABLE, .name = "portable", .gemm_f32_nr = 16, .gemm_f32_mr = 4,
    .gemm_i8_nr = 16, .gemm_i8_mr = 4,
#define APUS_KERNEL(type, field) .field = apus_##field##_portable,
#include "kernels.inc"
};

#if APUS_X86
static const apus_kernel_table avx2 = {
    .level = APUS_LEVEL_AVX2, .name = "avx2", .gemm_f32_nr = 16, .gemm_f32_mr = 6,
    .gemm_i8_nr = 16, .gemm_i8_mr = 2,
#define APUS_KERNEL(type, field) .field = apus_##field##_avx2,
#include "kernels.inc"
};

static const apus_kernel_table avx512 = {
    .level = APUS_LEVEL_AVX512, .name = "avx512", .gemm_f32_nr = 32, .gemm_f32_mr = 14,
    .gemm_i8_nr = 32, .gemm_i8_mr = 12,
#define APUS_KERNEL(type, field) .field = apus_##field##_avx512,
#include "kernels.inc"
};
#endif

static pthread_once_t once = PTHREAD_ONCE_INIT;
static apus_kernel_table tables[3];
static const apus_kernel_table *supported[3], *chosen;

static void fill(void) {
  uint32_t features;
  apus_level best = apus_cpu_level(&features);
  tables[APUS_LEVEL_PORTABLE] = portable;
#if APUS_X86
  tables[APUS_LEVEL_AVX2] = avx2;
  tables[APUS_LEVEL_AVX512] = avx512;
  tables[APUS_LEVEL_AVX512].features = features;
  if (!(features & APUS_FEATURE_AVX512_VNNI)) {
    tables[APUS_LEVEL_AVX512].gemm_i8_nr = avx2.gemm_i8_nr;
    tables[APUS_LEVEL_AVX512].gemm_i8_mr = avx2.gemm_i8_mr;
    tables[APUS_LEVEL_AVX512].gemm_i8 = avx2.gemm_i8;
    tables[APUS_LEVEL_AVX512].gemm_i8_pack = avx2.gemm_i8_pack;
  }
#endif
  for (int level = 0; level <= (int)best; level++) supported[level] = &tables[level];
  const char *forced = getenv("APUS_ISA");
  for (int level = 0; forced && level < (int)best; level++)
    if (strcmp(forced, tables[level].name) == 0) best = (apus_level)level;
  chosen = supported[best];
}

const apus_kernel_table *apus_kernels(void) {
  pthread_once(&once, fill);
  return chosen;
}

const apus_kernel_table *apus_kernels_for(apus_level level) {
  pthread_once(&once, fill);
  return (unsigned)level < 3 ? supported[level] : NULL;
}

bool apus_force_level(apus_level level) {
  const apus_kernel_table *table = apus_kernels_for(level);
  if (table) chosen = table;
  return table;
}

static const char *const names[] = {
#define APUS_KERNEL(type, field) #field,
#include "kernels.inc"
};
size_t apus_kernel_count(void) { return sizeof names / sizeof *names; }
const char *apus_kernel_name(size_t index) { return names[index]; }

static const struct {
  const char *name;
  size_t offset;
  double max_ulp;
  bool of_input;
} unary[] = {
#define OF_RESULT false
#define OF_INPUT true
#define APUS_KERNEL(type, field)
#define APUS_UNARY_F32(operation, max_ulp, of) \
  {#operation, offsetof(apus_kernel_table, operation##_f32), max_ulp, OF_##of},
#include "kernels.inc"
};
size_t apus_unary_f32_count(void) { return sizeof unary / sizeof *unary; }
apus_unary_f32_entry apus_unary_f32_at(const apus_kernel_table *table, size_t index) {
  apus_unary_f32_entry entry = {unary[index].name, NULL, unary[index].max_ulp, unary[index].of_input};
  memcpy(&entry.function, (const char *)table + unary[index].offset, sizeof entry.function);
  return entry;
}
