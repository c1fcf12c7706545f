// The rate of integer products in the compiler's vector types: 16 bits wide, added to 32.
#include "../kernel_declarations.h"

typedef int16_t words __attribute__((vector_size(8)));
typedef int32_t sums __attribute__((vector_size(16)));

static inline sums dot(sums sum, sums a, sums b) {
  const words product = __builtin_convertvector(a, words) * __builtin_convertvector(b, words);
  return sum + __builtin_convertvector(product, sums);
}

#define PEAK_NAME apus_peak_i8_portable
#define I8_VECTOR sums
#define I8_SPLAT(number) ((sums){0} + (int32_t)(number))
#define I8_DOT(sum, a, b) dot(sum, a, b)
#define I8_PRODUCTS 4
#define I8_LANE(vector) (vector)[0]
#include "peak_i8.inc.h"
