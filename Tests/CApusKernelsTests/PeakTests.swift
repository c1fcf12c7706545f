// The kernels that tell what a machine can do, and the way to a kernel by its number.

import CApusKernels
import Testing

@Suite struct PeakTests {
  /// Operations grow with the rounds, by a number that is the variant's own.
  @Test(arguments: levels.indices) func operationsAreCounted(level: Int) {
    let kernels = levels[level]
    for peak in [kernels.peak_f32, kernels.peak_i8] {
      let one = peak(1)
      #expect(one > 0 && one.truncatingRemainder(dividingBy: 2) == 0, "\(kernels.label)")
      #expect(peak(0) == 0 && peak(1000) == 1000 * one, "\(kernels.label)")
    }
  }

  /// A kernel by its number is the one of that name, of the type that its line names.
  @Test(arguments: levels.indices) func functionsByNumber(level: Int) throws {
    var kernels = levels[level]
    for index in 0..<apus_unary_f32_count() {
      let entry = apus_unary_f32_at(&kernels, index)
      let name = String(cString: entry.name) + "_f32"
      let number = try #require((0..<apus_kernel_count()).first { String(cString: apus_kernel_at($0).name) == name })
      #expect(String(cString: apus_kernel_at(number).type) == "apus_unary_f32_fn")
      let function = unsafeBitCast(apus_kernel_function(&kernels, number), to: UnsafeRawPointer.self)
      #expect(function == unsafeBitCast(entry.function, to: UnsafeRawPointer.self), "\(kernels.label) \(name)")
    }
  }
}
