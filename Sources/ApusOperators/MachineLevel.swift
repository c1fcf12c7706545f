// The machine as far as packed weights depend on it.

import CApusKernels

/// What the kernels of this process are made for. Weights that were packed under one description can be read under an
/// equal one only.
package struct MachineLevel: Sendable, Hashable {
  /// `portable`, `avx2`, `avx512`, `neon`.
  package let name: String
  /// Extensions beyond the level that its kernels use, in a fixed order, with a space between them; may be empty.
  package let features: String
  /// The tiles that panels are packed for.
  package let tiles: String

  /// That of `apus_kernels()`.
  package static var current: MachineLevel {
    let table = apus_kernels().pointee
    let used = (0..<apus_feature_count()).filter { table.features & apus_feature_bit($0) != 0 }
    // "avx512-vnni" is the level avx512 without a feature.
    let level = String(cString: table.name).prefix { $0 != "-" }
    return MachineLevel(
      name: String(level), features: used.map { String(cString: apus_feature_name($0)) }.joined(separator: " "),
      tiles: "f32 \(table.gemm_f32_mr)x\(table.gemm_f32_nr), i8 \(table.gemm_i8_mr)x\(table.gemm_i8_nr)")
  }

  /// What is wrong with the environment variable APUS_ISA; nil: it names a machine, or is not set.
  package static var environmentFault: String? {
    apus_unknown_isa().map {
      let levels = (0..<apus_level_count()).map { String(cString: apus_level_name($0)) }
      let names = levels.dropLast().joined(separator: ", ") + " or " + levels[levels.count - 1]
      return "APUS_ISA is '\(String(cString: $0))'; expected \(names), or one of these less a feature, as in "
        + "\(levels[levels.count - 1])-\(String(cString: apus_feature_name(0)))"
    }
  }
}
