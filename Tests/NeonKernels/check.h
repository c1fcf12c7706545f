// What the drivers of kernels need: random arguments in memory that ends where other memory must not be touched, and
// results of two machines that are compared.
//
// A driver makes one call of a kernel from random numbers. It is run twice with the same numbers: by the portable
// kernels, whose results are kept, and by those of the machine under test, whose results must be the same.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "CApusKernels.h"

// The elements that a line of kernels.inc names.
typedef enum { ANY_BITS, F16, BF16, F32, F64 } number_format;
typedef struct {
  const char *name;
  size_t size;
  number_format format;
} element;
element element_named(const char *name, size_t length);
// The i-th word of the elements of a kernel, or its last.
element element_of(const apus_kernel_info *info, size_t index);

// One call.
typedef struct {
  const apus_kernel_table *machine;
  apus_kernel_info info;
  size_t kernel;
  size_t trial;
  bool special;  // floats may be NaN, infinite, subnormal or zero
} call;

// The function of the kernel, to be called as the type of its line.
#define FUNCTION(type, c) ((type *)apus_kernel_function((c)->machine, (c)->kernel))

uint64_t draw(void);
size_t below(size_t bound);                     // 0 for 0
static inline size_t between(size_t low, size_t high) { return low + below(high - low + 1); }
static inline bool chance(size_t of) { return below(of) == 0; }
// Mostly 1 to 70, sometimes nothing or some hundreds.
size_t length(void);
float number(bool special);

// Memory of so many bytes which ends, or in some calls begins, at a page that cannot be touched. For this call only.
void *memory(size_t bytes);
void fill(const call *c, void *p, size_t count, element e);
void *filled(const call *c, size_t count, element e);
float *floats(const call *c, size_t count);
// Floats that are numbers of moderate size.
float *plain_floats(size_t count);
// As filled, or NULL.
float *perhaps_floats(const call *c, size_t count);

// Memory for a result, with bytes on both sides of it that must stay as they are, of which up to `slack` may be written
// behind the result. Its contents are compared.
void *result(size_t count, element e, size_t slack);
// The same with the contents of x before the call.
void *result_over(const void *x, size_t count, element e, size_t slack);
// Float32 results that need not be equal: element i may be bounds[i] off. The bounds are read after the call.
float *near_result(size_t count, const float *bounds);
// A number that the call has returned.
void returned(double value);

static const element f32 = {"f32", 4, F32}, u8 = {"u8", 1, ANY_BITS}, i32 = {"i32", 4, ANY_BITS},
                     words = {"u16", 2, ANY_BITS};

typedef void driver_fn(const call *c);
typedef struct {
  const char *type;
  driver_fn *driver;
  size_t trials;
} driver;
extern const driver vector_drivers[], row_drivers[], matrix_drivers[], window_drivers[];
