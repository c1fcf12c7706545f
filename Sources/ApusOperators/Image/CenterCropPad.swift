// CenterCropPad: crops or pads axes around their centre. https://onnx.ai/onnx/operators/onnx__CenterCropPad.html
// Versions: 18.

import ApusGraph
import ApusTensor

struct CenterCropPad: OperatorDefinition {
  let schema = OperatorSchema(
    "CenterCropPad", versions: [18],
    inputs: [.required("input_data", "T"), .required("shape", "Tind", readWhenPlanning: true)],
    outputs: [.required("output_data", "T")],
    attributes: [.optional("axes", .ints)],
    types: ["T": .allBeforeBFloat16 + [.bfloat16], "Tind": .indices],
    traits: .movesData)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    guard let input = context.shape(0) else { return context.set(0, context.type(0), nil) }
    var axes: [Int] = []
    for axis in context.optionalInts("axes") ?? Array(0..<input.count) {
      axes.append(try resolveAxis(axis, rank: input.count, name: "axes"))
    }
    var shape = input
    if let target = context.values(1) {
      guard target.count == axes.count else {
        throw .mismatch("shape has \(target.count) elements; expected \(axes.count), one for each axis")
      }
      for (axis, extent) in zip(axes, target) {
        if let known = extent.known, known < 0 { throw .mismatch("shape asks for the extent \(known)") }
        shape[axis] = extent
      }
    } else {
      for axis in axes { shape[axis] = .unknown }
    }
    context.set(0, context.type(0), shape)
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      guard let type = plan.inputs.first??.dataType else { throw .mismatch("the input is missing") }
      return CropPad(input: plan.shape(0), output: plan.outputShape(0), width: type.byteWidth).step
    }
  }
}

/// Copies the common part of two shapes with the same centre; the rest of the output is zeros.
private struct CropPad: Sendable {
  let input: Shape
  let output: Shape
  let width: Int

  /// The positions of the output along an axis that the input covers, and the input position of the first.
  private func covered(_ axis: Int) -> (range: Range<Int>, source: Int) {
    let (from, to) = (input[axis], output[axis])
    // Cropping starts at half the difference rounded down; so does padding.
    if from >= to { return (0..<to, (from - to) / 2) }
    let begin = (to - from) / 2
    return (begin..<begin + from, 0)
  }

  var step: Step {
    let rank = output.rank
    if rank == 0 {
      let width = width
      return .serial { $0.outputBytes(0).copyMemory(from: $0.inputBytes(0), byteCount: width) }
    }
    let axes = (0..<rank).map { covered($0) }
    let strides = input.strides
    let rowBytes = output[rank - 1] * width
    let rows = output.count(of: 0..<rank - 1)
    let partition = Partition(rows, of: .copying(bytes: rowBytes))
    let copied = axes[rank - 1].range.count * width
    let lead = axes[rank - 1].range.lowerBound * width
    let (output, width) = (output, width)
    return .parallel(parts: partition.parts) { run, part in
      for row in partition.range(part) {
        var rest = row
        var offset: Int? = axes[rank - 1].source
        for axis in stride(from: rank - 2, through: 0, by: -1) {
          let position = rest % output[axis]
          rest /= output[axis]
          guard axes[axis].range.contains(position), let so = offset else {
            offset = nil
            continue
          }
          offset = so &+ (axes[axis].source &+ position &- axes[axis].range.lowerBound) &* strides[axis]
        }
        let target = run.outputBytes(0) + row * rowBytes
        guard let offset, copied > 0 else {
          target.initializeMemory(as: UInt8.self, repeating: 0, count: rowBytes)
          continue
        }
        target.initializeMemory(as: UInt8.self, repeating: 0, count: lead)
        (target + lead).copyMemory(from: run.inputBytes(0) + offset &* width, byteCount: copied)
        (target + lead + copied).initializeMemory(as: UInt8.self, repeating: 0, count: rowBytes - lead - copied)
      }
    }.named("copy")
  }
}
