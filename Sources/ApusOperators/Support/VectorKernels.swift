// The table of C kernels of this machine, in a form that closures of kernels can carry.

import CApusKernels

/// The kernels of the chosen level.
///
/// `@unchecked Sendable`: a pointer to a constant table of functions without state.
struct VectorKernels: @unchecked Sendable {
  let table: UnsafePointer<apus_kernel_table>

  static var current: VectorKernels { VectorKernels(table: apus_kernels()) }
}
