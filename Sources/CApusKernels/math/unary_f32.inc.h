// The float32 unary kernels: a loop around each function of math.inc.h and trig.inc.h.

#define UNARY(op, expression) \
  void APUS_(apus_##op##_f32)(size_t n, const float *xs, float *ys, const float *params) { \
    (void)params; \
    size_t i = 0; \
    for (; i + VL <= n; i += VL) { \
      const vf x = v_load(xs + i); \
      v_store(ys + i, expression); \
    } \
    if (i < n) { \
      const vf x = v_load_n(xs + i, n - i); \
      v_store_n(ys + i, expression, n - i); \
    } \
  }

UNARY(exp, v_exp(x))
UNARY(log, v_log(x))
UNARY(erf, v_erf(x))
UNARY(tanh, v_tanh(x))
UNARY(sigmoid, v_sigmoid(x))
UNARY(silu, v_silu(x))
UNARY(gelu, v_gelu(x))
UNARY(gelu_tanh, v_gelu_tanh(x))
UNARY(mish, v_mish(x))
UNARY(elu, v_elu(x, v_set1(params[0])))
UNARY(softplus, v_softplus(x))
UNARY(sin, v_sin(x))
UNARY(cos, v_cos(x))
UNARY(tan, v_tan(x))
UNARY(asin, v_asin(x))
UNARY(acos, v_acos(x))
UNARY(atan, v_atan(x))
UNARY(sinh, v_sinh(x))
UNARY(cosh, v_cosh(x))
UNARY(asinh, v_asinh(x))
UNARY(acosh, v_acosh(x))
UNARY(atanh, v_atanh(x))
UNARY(celu, v_celu(x, v_set1(params[0])))
UNARY(selu, v_selu(x, v_set1(params[0]), v_set1(params[1])))
UNARY(swish, v_swish(x, v_set1(params[0])))
UNARY(softsign, v_softsign(x))
UNARY(thresholded_relu, v_thresholded_relu(x, v_set1(params[0])))
UNARY(shrink, v_shrink(x, v_set1(params[0]), v_set1(params[1])))
UNARY(sign, v_sign(x))
UNARY(relu, v_relu(x))
UNARY(leaky_relu, v_leaky_relu(x, v_set1(params[0])))
UNARY(clip, v_clamp(x, v_set1(params[0]), v_set1(params[1])))
UNARY(hard_sigmoid, v_hard_sigmoid(x, v_set1(params[0]), v_set1(params[1])))
UNARY(hard_swish, v_hard_swish(x))
UNARY(sqrt, v_sqrt(x))
UNARY(reciprocal, v_set1(1) / x)
UNARY(rsqrt, v_set1(1) / v_sqrt(x))
UNARY(neg, v_neg(x))
UNARY(abs, v_abs(x))
UNARY(floor, v_floor(x))
UNARY(ceil, v_ceil(x))
UNARY(round, v_round(x))
#undef UNARY

// The kernel that an activation is; NULL for none.
apus_unary_f32_fn *APUS_(apus_activation_function)(apus_activation kind) {
  switch (kind) {
    case APUS_ACTIVATION_RELU: return APUS_(apus_relu_f32);
    case APUS_ACTIVATION_CLIP: return APUS_(apus_clip_f32);
    case APUS_ACTIVATION_LEAKY_RELU: return APUS_(apus_leaky_relu_f32);
    case APUS_ACTIVATION_SIGMOID: return APUS_(apus_sigmoid_f32);
    case APUS_ACTIVATION_TANH: return APUS_(apus_tanh_f32);
    case APUS_ACTIVATION_HARD_SIGMOID: return APUS_(apus_hard_sigmoid_f32);
    case APUS_ACTIVATION_HARD_SWISH: return APUS_(apus_hard_swish_f32);
    case APUS_ACTIVATION_SILU: return APUS_(apus_silu_f32);
    case APUS_ACTIVATION_GELU: return APUS_(apus_gelu_f32);
    case APUS_ACTIVATION_GELU_TANH: return APUS_(apus_gelu_tanh_f32);
    case APUS_ACTIVATION_NONE: break;
  }
  return NULL;
}
