// MaxPool: the largest element of every window, and where it lies. https://onnx.ai/onnx/operators/onnx__MaxPool.html
// Versions: 1, 8 (Indices, storage_order), 10 (ceil_mode, dilations), 11, 12 (int8, uint8), 22 (bfloat16).

import ApusGraph
import ApusTensor
import CApusKernels

package struct MaxPool: OperatorDefinition {
  package let schema = OperatorSchema(
    "MaxPool", versions: [1, 8, 10, 11, 12, 22],
    inputs: [.required("X", "T")],
    outputs: [.required("Y", "T"), .optional("Indices", "I")],
    attributes: poolAttributes(ceilModeSince: 10, dilationsSince: 10) + [.int("storage_order", default: 0).since(8)],
    types: ["T": .floats + [.int8, .uint8], "I": .int64],
    layout: .images(twin: OperatorID("MaxPool", domain: "apus"), isFaster: { _ in false }) {
      $0.type(0) == .float32 && $0.optionalInt("storage_order") == 0
    }, portable: .moreTypes, axes: AxisRules.planes, codes: .keeps)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let shape = try PoolLayout().outputShape(context)
    context.set(0, context.type(0), shape)
    context.set(1, .int64, shape)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    switch try context.type(0) {
    case .float32, .float64, .int8, .uint8: try planned(context)
    case .float16, .bfloat16:
      try StagedKernel.prepare(context) { (context) throws(OperatorError) in try planned(context) }
    case let type: throw context.unsupportedType(type)
    }
  }

  private func planned(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let attributes = NodeAttributes(context)
    let isColumnMajor = try context.bool("storage_order")
    return .planned { (plan) throws(OperatorError) in
      try MaxPool.candidates.chosen(
        .maxPool,
        PoolFacts(
          elementType: plan.inputs[0]?.dataType, geometry: try PoolLayout().geometry(attributes, plan),
          planes: plan.shape(0).count(of: 0..<2), wantsIndices: plan.isWanted(1), isColumnMajor: isColumnMajor))
    }
  }

  private static let candidates: [PoolCandidate] = [
    .plain { plain($0) },
    .planes {
      PhasePool($0, .maximum)?.step
    } unless: {
      $0.wantsIndices ? "positions are wanted" : nil
    },
    .wholeWindows(isAverage: false) {
      $0.wantsIndices ? "positions are wanted" : nil
    },
    .rows(types: [.float32]) {
      RowPool<Float>($0, .maximum, combine: apus_kernels().pointee.max_f32_vv, start: -.infinity).step
    } unless: {
      $0.wantsIndices ? "positions are wanted" : nil
    },
    .rows("rows of doubles", types: [.float64]) {
      RowPool<Double>($0, .maximum, combine: apus_kernels().pointee.max_f64_vv, start: -.infinity).step
    } unless: {
      $0.wantsIndices ? "positions are wanted" : nil
    },
    .rows("rows of bytes", types: [.uint8, .int8]) {
      $0.elementType == .uint8
        ? RowPool<UInt8>($0, .maximum, combine: apus_kernels().pointee.max_u8_vv, start: .min).step
        : RowPool<Int8>($0, .maximum, combine: apus_kernels().pointee.max_s8_vv, start: .min).step
    } unless: {
      $0.wantsIndices ? "positions are wanted" : nil
    },
    .rows("rows of positions", types: positionTypes) {
      PositionPool.step($0)
    } unless: {
      $0.wantsIndices ? nil : "no positions are wanted"
    },
  ]

  private static let positionTypes: [DataType] = [.float32, .float64, .int8, .uint8]

  private static func plain(_ pool: PoolFacts) -> Step? {
    switch pool.elementType {
    case .float32: direct(Float.self, -.infinity, pool)
    case .float64: direct(Double.self, -.infinity, pool)
    case .int8: direct(Int8.self, .min, pool)
    case .uint8: direct(UInt8.self, .min, pool)
    default: nil
    }
  }

  /// `lowest` is the maximum of a window without elements, whose index is -1.
  private static func direct<Element: Comparable & BitwiseCopyable & Sendable & SendableMetatype>(
    _ type: Element.Type, _ lowest: Element, _ pool: PoolFacts
  ) -> Step {
    let (geometry, wantsIndices, isColumnMajor) = (pool.geometry, pool.wantsIndices, pool.isColumnMajor)
    let windows = PlaneWindows(geometry, planes: pool.planes)
    let (area, outputArea) = (geometry.inputCount, geometry.outputCount)
    return .parallel(parts: windows.partition.parts, scratchBytes: windows.scratchBytes) { run, part in
      let y: UnsafeMutablePointer<Element> = run.output()
      windows.forEach(part: part, scratch: run.scratch) { plane, index, window in
        let source: UnsafePointer<Element> = run.input(0) + plane &* area
        let (best, position) = MaxPool.largest(source, window, lowest)
        y[plane &* outputArea &+ index] = best
        if wantsIndices {
          let inPlane = isColumnMajor && position >= 0 ? geometry.columnMajor(position) : position
          run.output(1, as: Int.self)[plane &* outputArea &+ index] = position < 0 ? -1 : plane &* area &+ inPlane
        }
      }
    }.named("direct")
  }

  /// The largest element and its position in the plane; the first of equals. The first NaN is larger than all.
  @inline(__always)
  private static func largest<Element: Comparable>(
    _ source: UnsafePointer<Element>, _ window: PlaneWindow, _ lowest: Element
  ) -> (Element, position: Int) {
    var best = lowest
    var position = -1
    for run in 0..<window.rowCount {
      let start = window.rows[run] &+ window.first
      for tap in 0..<window.count {
        let candidate = start &+ tap &* window.step
        // Not (a <= b) is true of a NaN on either side; a best that differs from itself is one.
        if position < 0 || (!(source[candidate] <= best) && best == best) {
          best = source[candidate]
          position = candidate
        }
      }
    }
    return (best, position)
  }
}

extension WindowGeometry {
  /// The row-major position `position` of the input counted with the first axis fastest.
  func columnMajor(_ position: Int) -> Int {
    var rest = position
    var result = 0
    for axis in stride(from: rank - 1, through: 0, by: -1) {
      result = result &* input[axis]
      // Horner from the last axis: each earlier axis is a faster one.
      result &+= rest % input[axis]
      rest /= input[axis]
    }
    return result
  }
}
