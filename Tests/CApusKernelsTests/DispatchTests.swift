// The tables of kernels: what machines there are, that each variant is in one, and that variants fit together.

import CApusKernels
import Testing

@Suite struct DispatchTests {
  private static let variants = (0..<apus_variant_count()).map { apus_variant_at($0).pointee }
  private static var kernels: [apus_kernel_info] { (0..<apus_kernel_count()).map { apus_kernel_at($0) } }

  #if arch(arm64)
    private static let levelNames = ["portable", "neon"]
    private static let known = ["portable", "neon", "neon-dotprod", "neon-i8mm-bf16", "portable-i8mm"]
    private static let unknown = ["", "avx2", "neo", "neonn", "-i8mm", "neon-", "neon-i8m", "neoni8mm", "i8mm-neon"]
  #else
    private static let levelNames = ["portable", "avx2", "avx512"]
    private static let known = [
      "portable", "avx2", "avx512", "avx512-vnni", "avx512-vnni-bf16", "avx512-amx", "avx2-vnni",
    ]
    private static let unknown = [
      "", "sse9", "avx", "avx5122", "-vnni", "avx512-", "avx512-vnn", "avx512vnni", "vnni-avx512", "neon",
    ]
  #endif

  private func taken(_ kernels: Kernels) -> [apus_variant] {
    (0..<apus_kernel_count()).map { kernels.variants[$0].pointee }
  }

  @Test func machinesAreWhatTheyAreCalled() {
    #expect(apus_kernels() == apus_kernels())
    let names = levels.map(\.label)
    #expect(Set(names).count == names.count)
    let whole = names.filter { !$0.contains("-") }
    #expect(whole == Array(Self.levelNames.prefix(whole.count)))
    for level in levels {
      #expect(apus_isa_is_known(level.name))
      #expect(level.variants[0].pointee.level.rawValue <= level.level.rawValue)
    }
  }

  /// A machine that is called less than another has its features but those that are named.
  @Test func featuresAreLeftOut() throws {
    for level in levels where level.label.contains("-") {
      let parts = level.label.split(separator: "-")
      let whole = try #require(levels.first { $0.label == parts[0] })
      let missing = (0..<apus_feature_count()).filter {
        parts.dropFirst().contains("\(String(cString: apus_feature_name($0)))")
      }
      #expect(missing.count == parts.count - 1)
      // Kernels that need several features go with the first that is missing.
      #expect(level.features & ~missing.reduce(whole.features) { $0 & ~apus_feature_bit($1) } == 0)
    }
  }

  @Test func names() {
    #expect((0..<apus_level_count()).map { String(cString: apus_level_name($0)) } == Self.levelNames)
    for name in Self.known {
      #expect(apus_isa_is_known(name), "\(name)")
    }
    for name in Self.unknown {
      #expect(!apus_isa_is_known(name), "\(name)")
    }
  }

  /// Whatever this machine can run is in the table of some machine, so that the other tests reach it.
  @Test func everyVariantIsTaken() {
    let best = levels.map(\.level.rawValue).max() ?? 0
    // What kernels may use here; a feature that no kernel uses is not known.
    let features = levels.reduce(0) { $0 | $1.features }
    for variant in Self.variants where variant.level.rawValue <= best && variant.features & ~features == 0 {
      let name = String(cString: Self.kernels[variant.kernel].name) + "_" + String(cString: variant.name)
      let isTaken = levels.contains { String(cString: taken($0)[variant.kernel].name) == String(cString: variant.name) }
      #expect(isTaken, "\(name)")
    }
  }

  /// A table holds what its machine has, and everywhere the last variant that it has.
  @Test func tablesHoldTheBest() {
    for level in levels {
      for (kernel, variant) in taken(level).enumerated() {
        let fitting = Self.variants.filter {
          $0.kernel == kernel && $0.level.rawValue <= level.level.rawValue && $0.features & ~level.features == 0
        }
        #expect(String(cString: variant.name) == fitting.last.map { String(cString: $0.name) })
      }
    }
  }

  /// What one kernel packs another reads: both are of one variant, with one tile.
  @Test func panelsFit() {
    let families = [
      ["gemm_f32", "gemm_f32_pack", "gemm_f32_f16", "gemm_f32_bf16", "gemm_b16_pack"], ["gemm_i8", "gemm_i8_pack"],
      ["gemm_bf16", "gemm_bf16_pack"],
    ]
    for level in levels {
      let all = taken(level)
      for family in families {
        let members = Self.kernels.indices.filter { family.contains(String(cString: Self.kernels[$0].name)) }
        #expect(members.count == family.count)
        #expect(Set(members.map { String(cString: all[$0].name) }).count == 1)
        #expect(Set(members.map { all[$0].columns }).count == 1)
        #expect(all[members[0]].rows > 0)
      }
      // Those of bytes read the panels of float32's whatever variant they are.
      let readers = Self.kernels.indices.filter { String(cString: Self.kernels[$0].name).contains("nbits") }
      #expect(readers.count == 4 && readers.allSatisfy { all[$0].columns == level.gemm_f32_nr })
      #expect(level.gemm_f32_nr % 16 == 0 && level.gemm_i8_nr % 16 == 0)
    }
  }

  /// Every line says which elements it is for.
  @Test func elementTypes() {
    let known: Set = [
      "f16", "bf16", "f32", "f64", "u2", "u4", "u8", "s8", "i8", "s16", "u16", "i16", "u32", "i32", "u64", "i64",
      "bool", "1", "2", "4", "8", "byte", "bytes",
    ]
    for kernel in Self.kernels {
      let elements = String(cString: kernel.elements).split(separator: " ").map(String.init)
      #expect(!elements.isEmpty && known.isSuperset(of: elements), "\(String(cString: kernel.name))")
    }
  }
}
