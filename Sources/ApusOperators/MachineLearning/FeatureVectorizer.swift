// FeatureVectorizer: features from several inputs side by side. Axes behind the first are one row. Versions: 1.
// https://onnx.ai/onnx/operators/onnx_aionnxml_FeatureVectorizer.html

import ApusGraph
import ApusTensor

struct FeatureVectorizer: OperatorDefinition {
  let schema = OperatorSchema(
    "FeatureVectorizer", domain: "ai.onnx.ml", versions: [1],
    inputs: [.variadic("X", "T1")],
    outputs: [.required("Y", "tensor(float)")],
    attributes: [.optional("inputdimensions", .ints)],
    types: ["T1": featureTypes, "tensor(float)": [.float32]])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    var columns = Dim(0)
    for (index, width) in try FeatureVectorizer.widths(context, count: context.inputs.count).enumerated() {
      let shape = context.shape(index)
      if shape?.isEmpty ?? false {
        throw .mismatch("input \(index) is a scalar; expected [rows, columns] or [columns]")
      }
      columns =
        columns + (width.map { Dim($0) } ?? shape.map { $0.count == 1 ? $0[0] : Array($0[1...]).product } ?? .unknown)
    }
    let rows = context.shape(0).map { $0.count == 1 ? 1 : $0[0] } ?? .unknown
    context.set(0, .float32, [rows, columns])
  }

  /// Rows and columns of an input of rank 1 or more.
  private static func extents(_ shape: Shape) throws(OperatorError) -> (rows: Int, columns: Int) {
    guard shape.rank > 0 else { throw .mismatch("the features are a scalar; expected [rows, columns] or [columns]") }
    return shape.rank == 1 ? (1, shape[0]) : (shape[0], shape.count(of: 1..<shape.rank))
  }

  /// The number of columns of each input; nil: all it has.
  private static func widths(_ context: some OperatorContext, count: Int) throws(OperatorError) -> [Int?] {
    guard let widths = context.optionalInts("inputdimensions") else { return [Int?](repeating: nil, count: count) }
    guard widths.count == count, widths.allSatisfy({ $0 >= 0 }) else {
      throw .invalid("inputdimensions is \(widths); expected \(count) counts of features")
    }
    return widths
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let widths = try FeatureVectorizer.widths(context, count: context.inputs.count)
    var loads: [LaneLoad] = []
    for index in context.inputs.indices {
      let type = try context.type(index)
      guard let load = Lane.float32.load(type) else { throw context.unsupportedType(type, input: index) }
      loads.append(load)
    }
    return .planned { [loads] (plan) throws(OperatorError) in
      let rows = plan.outputShape(0)[0]
      let total = plan.outputShape(0)[1]
      var pieces: [(columns: Int, width: Int)] = []
      for index in loads.indices {
        let extents = try FeatureVectorizer.extents(plan.shape(index))
        guard extents.rows == rows else { throw .mismatch("input \(index) has \(extents.rows) rows; expected \(rows)") }
        pieces.append((extents.columns, widths[index] ?? extents.columns))
      }
      let partition = Partition(rows, of: .medium * total)
      return .parallel(parts: rows == 0 ? 0 : partition.parts) { [pieces] run, part in
        for row in partition.range(part) {
          var target: UnsafeMutablePointer<Float> = run.output(0) + row &* total
          for index in 0..<pieces.count {
            let piece = pieces[index]
            let count = min(piece.columns, piece.width)
            loads[index](run.inputBytes(index), row &* piece.columns, target, count)
            // What an input has too few of is zero.
            for column in count..<max(count, piece.width) { target[column] = 0 }
            target += piece.width
          }
        }
      }
    }
  }
}
