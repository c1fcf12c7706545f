// The tables of function pointers, one for each machine that this one can stand for, and the choice among them.
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cpu.h"
#include "kernel_declarations.h"

enum {
#define APUS_KERNEL(type, name, elements, variants) INDEX_##name,
#include "kernels.inc"
  KERNEL_COUNT
};

// A line of kernels.inc, and the variants of all lines.
static const struct {
  apus_kernel_info info;
  size_t offset;
} kernels[] = {
#define APUS_KERNEL(type, name, elements, variants) {{#name, #type, elements}, offsetof(apus_kernel_table, name)},
#include "kernels.inc"
};
static const struct {
  apus_variant variant;
  apus_any_fn *function;
} variants[] = {
#define VARIANT(context, name, variant, level, features, rows, columns) \
  {{INDEX_##name, #variant, APUS_LEVEL_##level, features, rows, columns}, (apus_any_fn *)apus_##name##_##variant},
#define APUS_KERNEL(type, name, elements, variants) variants(VARIANT, type, name)
#include "kernels.inc"
};
enum { VARIANT_COUNT = sizeof variants / sizeof *variants };

// The levels of this architecture, from the least, and what a machine may have beyond them.
static const struct {
  const char *name;
  apus_level level;
} levels[] = {
    {"portable", APUS_LEVEL_PORTABLE},
    APUS_X86_VARIANTS({"avx2", APUS_LEVEL_AVX2}, {"avx512", APUS_LEVEL_AVX512}, )
    APUS_ARM_VARIANTS({"neon", APUS_LEVEL_NEON}, )
};
enum { LEVEL_COUNT = sizeof levels / sizeof *levels };
static const struct {
  const char *name;
  uint32_t bit;
} features[] = {
#if defined(__aarch64__)
    {"dotprod", APUS_FEATURE_NEON_DOTPROD},
    {"i8mm", APUS_FEATURE_NEON_I8MM},
    {"bf16", APUS_FEATURE_NEON_BF16},
#else
    {"vnni", APUS_FEATURE_AVX512_VNNI | APUS_FEATURE_AVX_VNNI},
    {"bf16", APUS_FEATURE_AVX512_BF16},
    {"amx", APUS_FEATURE_AMX_INT8 | APUS_FEATURE_AMX_BF16},
    {"vbmi", APUS_FEATURE_AVX512_VBMI},
#endif
};
enum { FEATURE_COUNT = sizeof features / sizeof *features };

// A machine: every kernel in its best variant.
enum { NAME_LENGTH = 64, MACHINE_LIMIT = LEVEL_COUNT * (FEATURE_COUNT + 1) + 1 };
static apus_kernel_table tables[MACHINE_LIMIT];
static const apus_variant *taken[MACHINE_LIMIT][KERNEL_COUNT];
static char names[MACHINE_LIMIT][NAME_LENGTH];
static uint32_t lacking[MACHINE_LIMIT];
static size_t machine_count;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static const apus_kernel_table *chosen;
// The value of APUS_ISA that means nothing, or as much of it as a message needs; empty if there is none.
static char unknown[NAME_LENGTH];

// Fills a table for a machine of `level` with the instructions `available` beyond it.
static void make(size_t index, apus_level level, uint32_t available) {
  apus_kernel_table *table = &tables[index];
  const apus_variant **best = taken[index];
  for (size_t i = 0; i < VARIANT_COUNT; i++) {
    const apus_variant *v = &variants[i].variant;
    if (v->level > level || (v->features & ~available)) continue;
    best[v->kernel] = v;
    memcpy((char *)table + kernels[v->kernel].offset, &variants[i].function, sizeof variants[i].function);
  }
  table->level = level;
  table->features = 0;
  for (size_t k = 0; k < KERNEL_COUNT; k++) table->features |= best[k]->features;
  table->variants = best;
  table->gemm_f32_nr = best[INDEX_gemm_f32]->columns;
  table->gemm_f32_mr = best[INDEX_gemm_f32]->rows;
  table->gemm_i8_nr = best[INDEX_gemm_i8]->columns;
  table->gemm_i8_mr = best[INDEX_gemm_i8]->rows;
  table->gemm_bf16_nr = best[INDEX_gemm_bf16]->columns;
  table->gemm_bf16_mr = best[INDEX_gemm_bf16]->rows;
  for (int l = 0; l < LEVEL_COUNT; l++)
    if (levels[l].level == level) strcpy(names[index], levels[l].name);
  table->name = names[index];
}

// Adds a machine of `level` that is without the features `missing`, which its kernels would use. The name says so.
static const apus_kernel_table *add(apus_level level, uint32_t available, uint32_t missing) {
  const size_t index = machine_count++;
  make(index, level, available & ~missing);
  lacking[index] = missing;
  for (size_t f = 0; f < FEATURE_COUNT; f++) {
    if (!(features[f].bit & missing)) continue;
    strcat(names[index], "-");
    strcat(names[index], features[f].name);
  }
  return &tables[index];
}

// Reads "level" or "level-feature-feature"; false for anything else.
static bool parse(const char *text, apus_level *level, uint32_t *removed) {
  size_t length = strcspn(text, "-");
  *removed = 0;
  int found = -1;
  for (int l = 0; l < LEVEL_COUNT; l++)
    if (strlen(levels[l].name) == length && strncmp(text, levels[l].name, length) == 0) found = l;
  if (found < 0) return false;
  *level = levels[found].level;
  for (text += length; *text == '-'; text += length) {
    length = strcspn(++text, "-");
    uint32_t bit = 0;
    for (size_t f = 0; f < FEATURE_COUNT; f++)
      if (strlen(features[f].name) == length && strncmp(text, features[f].name, length) == 0) bit = features[f].bit;
    if (!bit) return false;
    *removed |= bit;
  }
  return true;
}

static void fill(void) {
  const char *forced = getenv("APUS_ISA");
  if (forced && !*forced) forced = NULL;
  apus_level level = levels[LEVEL_COUNT - 1].level;
  uint32_t removed = 0;
  const bool is_known = !forced || parse(forced, &level, &removed);
  if (!is_known) strncpy(unknown, forced, NAME_LENGTH - 1);
  uint32_t available, used = 0;
  const apus_level best =
      apus_cpu_level(!is_known || (level == APUS_LEVEL_AVX512 && !(removed & APUS_FEATURE_AMX_INT8)), &available);
  for (int l = 0; l < LEVEL_COUNT && levels[l].level <= best; l++) {
    // What the kernels of the level use, then machines without one of that.
    make(machine_count, levels[l].level, available);
    const uint32_t uses = tables[machine_count].features;
    if (levels[l].level == level) used = uses;
    for (size_t f = 0; f < FEATURE_COUNT; f++)
      if (features[f].bit & uses) add(levels[l].level, available, features[f].bit);
    chosen = add(levels[l].level, available, 0);
  }
  if (!forced || !is_known || level > best) return;
  uint32_t missing = 0;
  for (size_t f = 0; f < FEATURE_COUNT; f++)
    if (features[f].bit & removed & used) missing |= features[f].bit;
  for (size_t index = 0; index < machine_count; index++)
    if (tables[index].level == level && lacking[index] == missing) {
      chosen = &tables[index];
      return;
    }
  chosen = add(level, available, missing);
}

const apus_kernel_table *apus_kernels(void) {
  pthread_once(&once, fill);
  return chosen;
}

size_t apus_machine_count(void) {
  pthread_once(&once, fill);
  return machine_count;
}
const apus_kernel_table *apus_machine_at(size_t index) {
  pthread_once(&once, fill);
  return &tables[index];
}

void apus_force_machine(const apus_kernel_table *table) {
  pthread_once(&once, fill);
  chosen = table;
}

bool apus_isa_is_known(const char *text) {
  apus_level level;
  uint32_t removed;
  return parse(text, &level, &removed);
}

const char *apus_unknown_isa(void) {
  pthread_once(&once, fill);
  return *unknown ? unknown : NULL;
}

size_t apus_level_count(void) { return LEVEL_COUNT; }
const char *apus_level_name(size_t index) { return levels[index].name; }
size_t apus_feature_count(void) { return FEATURE_COUNT; }
const char *apus_feature_name(size_t index) { return features[index].name; }
uint32_t apus_feature_bit(size_t index) { return features[index].bit; }

size_t apus_kernel_count(void) { return KERNEL_COUNT; }
apus_kernel_info apus_kernel_at(size_t index) { return kernels[index].info; }
apus_any_fn *apus_kernel_function(const apus_kernel_table *table, size_t index) {
  apus_any_fn *function;
  memcpy(&function, (const char *)table + kernels[index].offset, sizeof function);
  return function;
}
size_t apus_variant_count(void) { return VARIANT_COUNT; }
const apus_variant *apus_variant_at(size_t index) { return &variants[index].variant; }

static const struct {
  const char *name;
  size_t offset;
  double max_ulp;
  bool of_input;
} unary[] = {
#define OF_RESULT false
#define OF_INPUT true
#define APUS_KERNEL(type, name, elements, variants)
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
