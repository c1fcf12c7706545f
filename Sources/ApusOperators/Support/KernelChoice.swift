// A switch for tests: general paths in place of fast ones, so that both can be held against each other.

/// Read while kernels are prepared and planned.
package enum KernelChoice {
  /// True: no micro-kernels and no special cases, the plain loops only.
  @TaskLocal package static var generalOnly = false
  /// Bytes of intermediate results that a kernel holds at a time; nil: as many as are good.
  @TaskLocal package static var passBytes: Int?
}
