// Depthwise windows over planes narrower than a vector: a plane is copied with its padding, row behind row without a
// gap, so that vectors of sums run over several rows; what they have between the rows is left out at the end. Included
// after planes.inc.h.

// Planes that are copied at a time, since what has just been stored cannot be loaded at another alignment for some
// time; and the vectors of one with its padding, and of its sums.
enum { NARROW_PLANES = 8, NARROW_COPY = 256 / VL, NARROW_SUMS = 8, NARROW_TAPS = 49 };

// A vector of elements of two that lie at `base`: v_pick.
typedef struct {
  size_t base;
  vi lanes;
} narrow_pick;

typedef struct {
  // Vectors of the copy, of the sums and of the outputs.
  size_t copied, summed, stored;
  // From one plane to the next: of x, of y.
  size_t area, out_area;
  ptrdiff_t offsets[NARROW_TAPS];
  narrow_pick copy[NARROW_COPY], store[NARROW_COPY];
} narrow_plan;

// Sets a pick by the positions of its elements, or -1; 0 where they lie too far apart.
INLINE int narrow_set(narrow_pick *pick, const ptrdiff_t *positions) {
  int32_t lanes[VL];
  ptrdiff_t base = -1;
  for (size_t k = 0; k < VL; k++)
    if (base < 0) base = positions[k];
  for (size_t k = 0; k < VL; k++) {
    if (positions[k] >= base + 2 * VL) return 0;
    lanes[k] = positions[k] < 0 ? -1 : (int32_t)(positions[k] - base);
  }
  pick->base = base < 0 ? 0 : (size_t)base;
  memcpy(&pick->lanes, lanes, sizeof lanes);
  return 1;
}

// 0 where planes are too wide or too large for it.
static int narrow_prepare(const apus_plane_depthwise_args *g, narrow_plan *plan) {
  const size_t pitch = g->out_w + g->kernel_w - 1, height = g->out_h + g->kernel_h - 1;
  if (pitch >= VL || g->out_h == 0 || g->out_w == 0 || g->kernel_h * g->kernel_w > NARROW_TAPS) return 0;
  plan->area = g->in_h * g->in_w, plan->out_area = g->out_h * g->out_w;
  plan->summed = ((g->out_h - 1) * pitch + g->out_w + VL - 1) / VL;
  plan->stored = (plan->out_area + VL - 1) / VL;
  plan->copied = (plan->summed * VL + (g->kernel_h - 1) * pitch + g->kernel_w + VL - 2) / VL;
  if (plan->copied > NARROW_COPY || plan->summed > NARROW_SUMS) return 0;
  for (size_t v = 0; v < plan->copied; v++) {
    ptrdiff_t positions[VL];
    for (size_t k = 0; k < VL; k++) {
      const size_t at = v * VL + k;
      const ptrdiff_t row = (ptrdiff_t)(at / pitch) - g->pad_top, column = (ptrdiff_t)(at % pitch) - g->pad_left;
      const int inside = at < height * pitch && row >= 0 && row < (ptrdiff_t)g->in_h && column >= 0 &&
                         column < (ptrdiff_t)g->in_w;
      positions[k] = inside ? row * (ptrdiff_t)g->in_w + column : -1;
    }
    if (!narrow_set(&plan->copy[v], positions)) return 0;
  }
  for (size_t v = 0; v < plan->stored; v++) {
    ptrdiff_t positions[VL];
    for (size_t k = 0; k < VL; k++) {
      const size_t at = v * VL + k;
      positions[k] = at < plan->out_area ? (ptrdiff_t)(at / g->out_w * pitch + at % g->out_w) : -1;
    }
    if (!narrow_set(&plan->store[v], positions)) return 0;
  }
  for (size_t a = 0; a < g->kernel_h; a++)
    for (size_t b = 0; b < g->kernel_w; b++) plan->offsets[a * g->kernel_w + b] = (ptrdiff_t)(a * pitch + b);
  return 1;
}

INLINE void narrow_sums(const narrow_plan *plan, const float *x, const float *weights, const float *bias, size_t taps,
                        float *y, const int vectors) {
  vf acc[NARROW_SUMS];
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) acc[v] = v_zero();
  for (size_t t = 0; t < taps; t++) {
    const float *from = x + plan->offsets[t];
    const vf w = v_set1(weights[t]);
#pragma clang loop unroll(full)
    for (int v = 0; v < vectors; v++) acc[v] = v_fma(v_load(from + v * VL), w, acc[v]);
  }
#pragma clang loop unroll(full)
  for (int v = 0; v < vectors; v++) v_store(y + v * VL, bias ? acc[v] + v_set1(*bias) : acc[v]);
}

// `left`: the elements from x on, of this plane and those behind it.
INLINE void narrow_copy(const narrow_plan *plan, const float *x, size_t left, float *copy) {
  for (size_t v = 0; v < plan->copied; v++) {
    const narrow_pick *pick = &plan->copy[v];
    const size_t there = left > pick->base ? left - pick->base : 0;
    const vf low = v_load_upto(x + pick->base, there);
    const vf high = there > VL ? v_load_upto(x + pick->base + VL, there - VL) : v_zero();
    v_store(copy + v * VL, v_pick(low, high, pick->lanes, pick->lanes));
  }
}

INLINE void narrow_store(const narrow_plan *plan, const float *sums, float *y) {
  for (size_t v = 0; v < plan->stored; v++) {
    const float *from = sums + plan->store[v].base;
    const vi lanes = plan->store[v].lanes;
    v_store_upto(y + v * VL, v_pick(v_load(from), v_load(from + VL), lanes, lanes), plan->out_area - v * VL);
  }
}

static void narrow_planes(const apus_plane_depthwise_args *g, const narrow_plan *plan, size_t planes) {
  enum { COPY = NARROW_COPY * VL, SUMS = (NARROW_SUMS + 2) * VL };
  float copies[NARROW_PLANES][COPY], sums[NARROW_PLANES][SUMS];
  const size_t taps = g->kernel_h * g->kernel_w;
  memset(sums, 0, sizeof sums);
  for (size_t p = 0; p < planes; p += NARROW_PLANES) {
    const size_t count = planes - p < NARROW_PLANES ? planes - p : NARROW_PLANES;
    for (size_t i = 0; i < count; i++)
      narrow_copy(plan, g->x + (p + i) * plan->area, (planes - p - i) * plan->area, copies[i]);
    for (size_t i = 0; i < count; i++) {
      const float *weights = g->weights + (p + i) * taps, *bias = g->bias ? g->bias + p + i : NULL;
      switch (plan->summed) {
#define SUMMED(n) \
  case n: narrow_sums(plan, copies[i], weights, bias, taps, sums[i], n); break;
        SUMMED(1) SUMMED(2) SUMMED(3) SUMMED(4) SUMMED(5) SUMMED(6) SUMMED(7) SUMMED(8)
#undef SUMMED
      }
    }
    for (size_t i = 0; i < count; i++) narrow_store(plan, sums[i], g->y + (p + i) * plan->out_area);
  }
}
