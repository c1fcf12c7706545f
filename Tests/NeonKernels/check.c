// Random arguments, guarded memory, and the comparison of two machines; see check.h. Ends with the line
// `N passed, N failed, N skipped`: a variant of a kernel counts as one check. Arguments: of how many calls of a driver
// one is made, and the only line of kernels.inc that is tried, if it is one.
#include "check.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { SLOTS = 24, SLOT_BYTES = 4 << 20, PAGE = 65536, RESULTS = 8, GUARD = 128, GUARD_BYTE = 0xa5 };

static uint64_t state;
uint64_t draw(void) {
  state += 0x9e3779b97f4a7c15;
  uint64_t x = state;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}
size_t below(size_t bound) { return bound ? draw() % bound : 0; }
size_t length(void) {
  const size_t kind = below(16);
  return kind == 0 ? 0 : kind == 1 ? between(71, 700) : between(1, 70);
}

static float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}
float number(bool special) {
  const uint32_t bits = (uint32_t)draw();
  if (special) {
    static const float values[] = {0, -0.0f, INFINITY, -INFINITY, NAN, 1, -1, 0.5f, 2.5f, 1e-40f, -1e-45f, 3e38f,
                                   0x1p31f, -0x1p31f, 0x1p63f, 65520, 88.8f, -104.2f, 0x1p-126f, -127.5f};
    const size_t kind = below(8);
    if (kind < 2) return values[below(sizeof values / sizeof *values)];
    if (kind == 2) return float_of(bits);
    if (kind == 3) return ((float)(bits >> 8) * 0x1p-24f - 0.5f) * 300;
  }
  return ((float)(bits >> 8) * 0x1p-24f - 0.5f) * 8;
}

// MARK: - Elements

static const element elements[] = {
    {"f16", 2, F16}, {"bf16", 2, BF16}, {"f32", 4, F32}, {"f64", 8, F64}, {"u8", 1, ANY_BITS}, {"s8", 1, ANY_BITS},
    {"i8", 1, ANY_BITS}, {"u16", 2, ANY_BITS}, {"s16", 2, ANY_BITS},
    {"i16", 2, ANY_BITS}, {"u32", 4, ANY_BITS}, {"i32", 4, ANY_BITS},
    {"u64", 8, ANY_BITS}, {"i64", 8, ANY_BITS}, {"bool", 1, ANY_BITS}, {"1", 1, ANY_BITS}, {"2", 2, ANY_BITS},
    {"4", 4, ANY_BITS}, {"8", 8, ANY_BITS}};
element element_named(const char *name, size_t length) {
  for (size_t i = 0; i < sizeof elements / sizeof *elements; i++)
    if (strlen(elements[i].name) == length && strncmp(elements[i].name, name, length) == 0) return elements[i];
  printf("no element '%.*s'\n", (int)length, name);
  exit(1);
}
element element_of(const apus_kernel_info *info, size_t index) {
  const char *word = info->elements;
  size_t size = strcspn(word, " ");
  for (; index > 0 && word[size] && strncmp(word + size, " byte", 5); index--) {
    word += size + 1;
    size = strcspn(word, " ");
  }
  return element_named(word, size);
}

static bool is_nan(element e, const uint8_t *p) {
  uint64_t x = 0;
  memcpy(&x, p, e.size);
  switch (e.format) {
    case F16: return (x & 0x7fff) > 0x7c00;
    case BF16: return (x & 0x7fff) > 0x7f80;
    case F32: return (x & 0x7fffffff) > 0x7f800000;
    case F64: return (x & INT64_MAX) > UINT64_C(0x7ff) << 52;
    case ANY_BITS: break;
  }
  return false;
}

// MARK: - Memory

static uint8_t *slots;
static size_t used;

void *memory(size_t bytes) {
  const size_t step = SLOT_BYTES + PAGE;
  if (!slots) {
    slots = mmap(NULL, SLOTS * step + PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (slots == MAP_FAILED) exit(1);
    for (size_t i = 0; i < SLOTS; i++) mprotect(slots + PAGE + i * step, SLOT_BYTES, PROT_READ | PROT_WRITE);
  }
  if (used == SLOTS || bytes > SLOT_BYTES) {
    fprintf(stderr, "a driver asks for too much memory: %zu bytes\n", bytes);
    abort();
  }
  uint8_t *slot = slots + PAGE + used++ * step;
  return state % 4 ? slot + SLOT_BYTES - bytes : slot;
}

void fill(const call *c, void *p, size_t count, element e) {
  uint8_t *to = p;
  const bool is_small = chance(3);
  for (size_t i = 0; i < count; i++, to += e.size) {
    uint64_t bits = draw();
    if (e.format == F32) {
      const float x = number(c->special);
      memcpy(to, &x, 4);
      continue;
    }
    if (e.format == F64) {
      const double digits = 1 + (double)bits * 0x1p-90;
      const double x = c->special && chance(4) ? (double)number(true) : (double)number(false) * digits;
      memcpy(to, &x, 8);
      if (c->special && chance(6)) memcpy(to, &bits, 8);
      continue;
    }
    if (e.format == F16 && !c->special) bits = (bits & 0x83ff) | 0x3800;
    if (e.format == BF16 && !c->special) bits = (bits & 0x80ff) | 0x3f00;
    if (e.format == ANY_BITS && is_small) bits = bits % 5 - 2;
    memcpy(to, &bits, e.size);
  }
}
void *filled(const call *c, size_t count, element e) {
  void *p = memory(count * e.size);
  fill(c, p, count, e);
  return p;
}
float *floats(const call *c, size_t count) { return filled(c, count, f32); }
float *plain_floats(size_t count) {
  float *p = memory(count * sizeof *p);
  for (size_t i = 0; i < count; i++) p[i] = number(false);
  return p;
}
float *perhaps_floats(const call *c, size_t count) { return chance(2) ? floats(c, count) : NULL; }

// MARK: - Results

static struct {
  uint8_t *bytes, *kept;
  size_t count, slack;
  element element;
  const float *bounds;
} results[RESULTS];
static size_t result_count;
static double return_value;
static bool has_returned;

void *result_over(const void *x, size_t count, element e, size_t slack) {
  const size_t bytes = count * e.size;
  uint8_t *p = memory(bytes + slack + 2 * GUARD + e.size);
  p += (e.size - ((uintptr_t)p + GUARD) % e.size) % e.size;
  memset(p, GUARD_BYTE, bytes + slack + 2 * GUARD);
  if (x) memcpy(p + GUARD, x, bytes);
  if (result_count == RESULTS) exit(1);
  results[result_count].bytes = p + GUARD;
  results[result_count].count = count;
  results[result_count].slack = slack;
  results[result_count].element = e;
  results[result_count++].bounds = NULL;
  return p + GUARD;
}
void *result(size_t count, element e, size_t slack) { return result_over(NULL, count, e, slack); }
float *near_result(size_t count, const float *bounds) {
  float *p = result(count, f32, 0);
  results[result_count - 1].bounds = bounds;
  return p;
}
void returned(double value) {
  return_value = value;
  has_returned = true;
}

static bool is_guarded(size_t index) {
  const size_t bytes = results[index].count * results[index].element.size + results[index].slack;
  const uint8_t *before = results[index].bytes - GUARD, *behind = results[index].bytes + bytes;
  for (size_t i = 0; i < GUARD; i++)
    if (before[i] != GUARD_BYTE || behind[i] != GUARD_BYTE) return false;
  return true;
}

static bool is_equal(size_t index, size_t i, const uint8_t *a, const uint8_t *b) {
  const element e = results[index].element;
  if (memcmp(a, b, e.size) == 0 || (is_nan(e, a) && is_nan(e, b))) return true;
  if (!results[index].bounds) return false;
  float x, y;
  memcpy(&x, a, sizeof x);
  memcpy(&y, b, sizeof y);
  return fabsf(x - y) <= results[index].bounds[i];
}

// Runs a driver with the numbers of `seed`.
static void run(const driver *d, call *c, const apus_kernel_table *machine, uint64_t seed) {
  used = result_count = 0;
  has_returned = false;
  state = seed;
  c->machine = machine;
  c->special = chance(2);
  d->driver(c);
}

static sigjmp_buf before_call;
static void touched(int signal) { siglongjmp(before_call, signal); }

// What is wrong with one call; NULL: nothing.
static const char *fault(const driver *d, call *c, const apus_kernel_table *machine, uint64_t seed) {
  if (sigsetjmp(before_call, 1)) return c->machine == machine ? "touches other memory" : "the portable kernel does";
  run(d, c, apus_machine_at(0), seed);
  for (size_t r = 0; r < result_count; r++) {
    const size_t bytes = results[r].count * results[r].element.size;
    results[r].kept = realloc(results[r].kept, bytes + 1);
    memcpy(results[r].kept, results[r].bytes, bytes);
    if (!is_guarded(r)) return "the portable kernel writes beside its result";
  }
  const double value = return_value;
  run(d, c, machine, seed);
  for (size_t r = 0; r < result_count; r++) {
    if (!is_guarded(r)) return "writes beside its result";
    const size_t size = results[r].element.size;
    for (size_t i = 0; i < results[r].count; i++)
      if (!is_equal(r, i, results[r].kept + i * size, results[r].bytes + i * size)) return "another result";
  }
  if (has_returned && return_value != value && !(isnan(value) && isnan(return_value))) return "returns another value";
  return NULL;
}

static const driver *driver_of(const char *type) {
  const driver *const all[] = {vector_drivers, row_drivers, matrix_drivers, window_drivers};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    for (const driver *d = all[i]; d->type; d++)
      if (strcmp(d->type, type) == 0) return d;
  return NULL;
}

static bool is_tried_before(size_t machine, size_t kernel) {
  for (size_t m = 0; m < machine; m++)
    if (apus_machine_at(m)->variants[kernel] == apus_machine_at(machine)->variants[kernel]) return true;
  return false;
}

int main(int count, char **arguments) {
  const size_t step = count > 1 ? (size_t)atoi(arguments[1]) : 1;
  const char *only = count > 2 ? arguments[2] : NULL;
  signal(SIGSEGV, touched);
  signal(SIGBUS, touched);
  size_t passed = 0, failed = 0, beyond = 0;
  for (size_t v = 0; v < apus_variant_count(); v++) {
    bool is_here = false;
    for (size_t m = 0; m < apus_machine_count() && !is_here; m++)
      is_here = apus_machine_at(m)->variants[apus_variant_at(v)->kernel] == apus_variant_at(v);
    beyond += !is_here;
  }
  for (size_t m = 1; m < apus_machine_count(); m++) {
    const apus_kernel_table *machine = apus_machine_at(m);
    for (size_t k = 0; k < apus_kernel_count(); k++) {
      call c = {.info = apus_kernel_at(k), .kernel = k};
      if ((only && strcmp(only, c.info.name)) || is_tried_before(m, k)) continue;
      const driver *d = driver_of(c.info.type);
      const char *problem = d ? NULL : "no driver for its type";
      for (c.trial = 0; !problem && c.trial < d->trials; c.trial += step)
        problem = fault(d, &c, machine, (k * 1000 + c.trial) * 0x2545f4914f6cdd1d);
      if (problem) printf("%s_%s: %s (call %zu)\n", c.info.name, machine->variants[k]->name, problem, c.trial);
      failed += problem != NULL;
      passed += problem == NULL;
      fflush(stdout);
    }
  }
  printf("machine %s: %zu variants of this build need more\n", apus_kernels()->name, beyond);
  printf("%zu passed, %zu failed, 0 skipped\n", passed, failed);
  return failed != 0;
}
