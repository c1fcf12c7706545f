// The machine as far as packed weights depend on it.

import CApusKernels

/// What the kernels of this process are made for. Weights that were packed under one description can be read under an
/// equal one only.
package struct MachineLevel: Sendable, Hashable {
  /// `portable`, `avx2`, `avx512`.
  package let name: String
  /// Extensions beyond the level that its kernels use, in a fixed order, with a space between them; may be empty.
  package let features: String
  /// The tiles that panels are packed for.
  package let tiles: String

  /// That of `apus_kernels()`.
  package static var current: MachineLevel {
    let table = apus_kernels().pointee
    let known = [("vnni", APUS_FEATURE_AVX512_VNNI), ("bf16", APUS_FEATURE_AVX512_BF16)]
    let features = known.filter { table.features & UInt32($0.1.rawValue) != 0 }.map(\.0).joined(separator: " ")
    return MachineLevel(
      name: String(cString: table.name), features: features,
      tiles: "f32 \(table.gemm_f32_mr)x\(table.gemm_f32_nr), i8 \(table.gemm_i8_mr)x\(table.gemm_i8_nr)")
  }
}
