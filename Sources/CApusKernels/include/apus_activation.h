// Activations and the epilogue that GEMM and convolution kernels apply to their float32 results.
#pragma once
#include <stddef.h>
#include <stdint.h>
#pragma clang assume_nonnull begin

// The operation on x, with the meaning of (alpha, beta). Each is the unary kernel of that name, bit for bit.
typedef enum {
  APUS_ACTIVATION_NONE = 0,
  APUS_ACTIVATION_RELU,          // max(x, 0)
  APUS_ACTIVATION_CLIP,          // min(max(x, alpha), beta)
  APUS_ACTIVATION_LEAKY_RELU,    // x < 0 ? alpha * x : x
  APUS_ACTIVATION_SIGMOID,       // 1 / (1 + exp(-x))
  APUS_ACTIVATION_TANH,          // tanh(x)
  APUS_ACTIVATION_HARD_SIGMOID,  // min(max(alpha * x + beta, 0), 1)
  APUS_ACTIVATION_HARD_SWISH,    // x * min(max(x / 6 + 1/2, 0), 1)
  APUS_ACTIVATION_SILU,          // x * sigmoid(x)
  APUS_ACTIVATION_GELU,          // x * (1 + erf(x / sqrt 2)) / 2
  APUS_ACTIVATION_GELU_TANH,     // x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2
} apus_activation;

// y = activation((sum + bias[column]) + add[row * add_ld + column]); absent terms are skipped. Rows and columns are
// those of the whole output. `add` may be the output itself (each element is read before it is written).
typedef struct {
  const float *_Nullable bias;
  const float *_Nullable add;
  ptrdiff_t add_ld;
  apus_activation activation;
  float alpha, beta;
} apus_epilogue_f32;

#pragma clang assume_nonnull end
