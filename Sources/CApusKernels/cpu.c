// Detection of the instruction-set level: by CPUID and XCR0, or by what the kernel says of an AArch64 machine. No code
// here is compiled for more than the base machine.
#include "cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

static uint64_t enabled_register_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (uint64_t)high << 32 | low;
}

// Asks the kernel for the data of tile registers, which a process has only for the asking.
static bool has_tile_data(void) {
#if defined(__linux__) && defined(SYS_arch_prctl)
  enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
  return false;
#endif
}

apus_level apus_cpu_level(bool wants_tiles, uint32_t *features) {
  enum { YMM_STATE = 0x6, ZMM_STATE = 0xe6, TILE_STATE = 0x60000 };
  uint32_t a, b, c, d;
  *features = 0;
  if (!__get_cpuid(1, &a, &b, &c, &d)) return APUS_LEVEL_PORTABLE;
  const uint32_t wanted = bit_OSXSAVE | bit_AVX | bit_FMA | bit_F16C;
  if ((c & wanted) != wanted) return APUS_LEVEL_PORTABLE;
  const uint64_t state = enabled_register_state();
  if ((state & YMM_STATE) != YMM_STATE) return APUS_LEVEL_PORTABLE;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return APUS_LEVEL_PORTABLE;
  const bool has_more = a >= 1;
  const uint32_t wide = bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL;
  const bool is_wide = (b & wide) == wide && (state & ZMM_STATE) == ZMM_STATE;
  uint32_t more, unused[3];
  if (!has_more || !__get_cpuid_count(7, 1, &more, &unused[0], &unused[1], &unused[2])) more = 0;
  enum { AVX_VNNI = 1 << 4 };
  if (more & AVX_VNNI) *features |= APUS_FEATURE_AVX_VNNI;
  if (!is_wide) return APUS_LEVEL_AVX2;
  if (c & bit_AVX512VNNI) *features |= APUS_FEATURE_AVX512_VNNI;
  if (c & bit_AVX512VBMI) *features |= APUS_FEATURE_AVX512_VBMI;
  enum { AMX_BF16 = 1 << 22, AMX_TILE = 1 << 24, AMX_INT8 = 1 << 25 };
  const bool has_tiles = (d & AMX_TILE) && (d & (AMX_INT8 | AMX_BF16)) && (state & TILE_STATE) == TILE_STATE;
  if (wants_tiles && has_tiles && has_tile_data()) {
    if (d & AMX_INT8) *features |= APUS_FEATURE_AMX_INT8;
    if (d & AMX_BF16) *features |= APUS_FEATURE_AMX_BF16;
  }
  if (more & bit_AVX512BF16) *features |= APUS_FEATURE_AVX512_BF16;
  return APUS_LEVEL_AVX512;
}
#elif defined(__aarch64__)
#if defined(__linux__)
#include <sys/auxv.h>
#endif

apus_level apus_cpu_level(bool wants_tiles, uint32_t *features) {
  (void)wants_tiles;
  *features = 0;
#if defined(__linux__)
  // HWCAP_ASIMDDP; HWCAP2_I8MM and HWCAP2_BF16, which older headers do not name.
  enum { DOTPROD = 1 << 20, I8MM = 1 << 13, BF16 = 1 << 14 };
  const unsigned long first = getauxval(AT_HWCAP), second = getauxval(AT_HWCAP2);
  if (first & DOTPROD) *features |= APUS_FEATURE_NEON_DOTPROD;
  if (second & I8MM) *features |= APUS_FEATURE_NEON_I8MM;
  if (second & BF16) *features |= APUS_FEATURE_NEON_BF16;
#endif
  return APUS_LEVEL_NEON;
}
#else
apus_level apus_cpu_level(bool wants_tiles, uint32_t *features) {
  (void)wants_tiles;
  *features = 0;
  return APUS_LEVEL_PORTABLE;
}
#endif
