// Maximum and average pools of planar float32 images whose windows lie whole in them: no copies are made.

import ApusGraph
import ApusTensor
import CApusKernels

/// The plan of a pool without indices, in the layout [batch, channels, spatial axes].
struct WholeWindowPool: Sendable {
  private let geometry: WindowGeometry
  private let isAverage: Bool
  private let partition: Partition

  /// Of larger windows, rows and columns are better combined one after the other.
  private static let largestWindow = 9.0

  /// Why the kernels do not have a pool; nil: they have it.
  static func refusal(_ pool: PoolFacts) -> String? {
    let geometry = pool.geometry
    guard geometry.rank <= 3 else { return "more than three spatial axes" }
    guard pool.perWindow <= largestWindow else { return "windows of more than \(Int(largestWindow)) elements" }
    guard geometry.strides[geometry.rank - 1] <= 2 else { return "elements of a row are more than two apart" }
    let isWhole = (0..<geometry.rank).allSatisfy { (axis: Int) -> Bool in
      let (output, stride) = (geometry.output[axis], geometry.strides[axis])
      guard geometry.padBegin[axis] == 0, geometry.dilations[axis] == 1, output > 0 else { return false }
      let reach: Int = (output - 1) * stride + geometry.kernel[axis]
      return reach <= geometry.input[axis]
    }
    return isWhole ? nil : "windows reach into the padding, or their elements are no neighbours"
  }

  /// For a pool that is not refused.
  init(_ pool: PoolFacts, isAverage: Bool) {
    (geometry, self.isAverage) = (pool.geometry, isAverage)
    partition = Partition(pool.planes, of: .light * (geometry.inputCount + geometry.outputCount))
  }

  /// Input 0 to output 0.
  var step: Step {
    .parallel(parts: partition.parts) { run, part in
      let planes = partition.range(part)
      var arguments = geometry.pool(
        run.input(0) + planes.lowerBound &* geometry.inputCount,
        run.output(0) + planes.lowerBound &* geometry.outputCount)
      apus_kernels().pointee.plane_pool_f32(&arguments, isAverage, planes.count)
    }.named("windows \(String(cString: apus_kernels().pointee.name))")
  }
}

extension WindowGeometry {
  /// The windows of planes from `x` on, for the kernels that pool them to `y`.
  fileprivate func pool(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>) -> apus_plane_pool_args {
    apus_plane_pool_args(
      x: x, y: y, extents: lastThree(input, 1), outputs: lastThree(output, 1), kernel: lastThree(kernel, 1),
      strides: lastThree(strides, 1))
  }
}
