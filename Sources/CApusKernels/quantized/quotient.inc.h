// Quotients that are rounded to codes of 8 bits, without a division where its place in the result does not matter.
#pragma once

// x / scale for a quotient that is rounded next: by the reciprocal, but where that comes near the middle between two
// whole numbers, and so might fall to the other side, or is no number, by division. `reach` is how far from a whole
// number that begins: quotients of magnitude 512, beyond which all is saturated, may be off by 2^-14 or so. What is
// less than a quarter of the scale is divided as 0, which it is when rounded: processors take long for subnormals.
INLINE vf v_quotient(vf x, vf scale, vf inverse, vf reach) {
  const vf q = x * inverse, gap = v_abs(q - v_round(q));
  if (!__builtin_expect(v_any((vm)~v_lt(gap, reach)), 0)) return q;
  return v_select(v_lt(v_abs(x), v_abs(scale) * v_set1(0.25f)), v_zero(), x) / scale;
}
// 0, which is nowhere, for a scale whose reciprocal is not as good.
INLINE float v_quotient_reach(float scale) {
  const float size = scale < 0 ? -scale : scale;
  return size >= 0x1p-100f && size <= 0x1p100f ? 0.5f - 0x1p-13f : 0;
}
// The reciprocal, or 0 where it is not used.
INLINE vf v_quotient_inverse(float scale) { return v_set1(v_quotient_reach(scale) == 0 ? 0 : 1 / scale); }
