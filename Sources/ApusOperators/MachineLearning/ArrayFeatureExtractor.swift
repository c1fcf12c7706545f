// ArrayFeatureExtractor: chosen positions of the last axis. Versions: 1.
// https://onnx.ai/onnx/operators/onnx_aionnxml_ArrayFeatureExtractor.html

import ApusGraph
import ApusTensor

struct ArrayFeatureExtractor: OperatorDefinition {
  let schema = OperatorSchema(
    "ArrayFeatureExtractor", domain: "ai.onnx.ml", versions: [1],
    inputs: [.required("X", "T"), .required("Y", "tensor(int64)")],
    outputs: [.required("Z", "T")],
    types: ["T": featureTypes + [.string], "tensor(int64)": .int64],
    traits: .movesData)

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    let count = context.shape(1)?.reduce(Dim(1), *) ?? .unknown
    guard let shape = context.shape(0) else { return context.set(0, context.type(0), nil) }
    guard !shape.isEmpty else { throw .mismatch("X is a scalar; expected an axis of features") }
    context.set(0, context.type(0), shape.count == 1 ? [1, count] : Array(shape.dropLast()) + [count])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .planned { (plan) throws(OperatorError) in
      let width = plan.inputs[0]?.dataType.byteWidth ?? 8
      let columns = plan.shape(0).last ?? 1
      // Without columns too: then every position is an error.
      let rows = plan.shape(0).count(of: 0..<max(plan.shape(0).rank - 1, 0))
      let count = plan.shape(1).elementCount
      let gather = GatherRun(width: width)
      let partition = Partition(rows, of: .medium * count)
      return .parallel(parts: rows == 0 ? 0 : partition.parts) { run, part in
        let positions: UnsafePointer<Int> = run.input(1)
        for index in 0..<count where positions[index] < 0 || positions[index] >= columns {
          return run.fail("Y holds \(positions[index]); expected a position among \(columns) columns")
        }
        let rows = partition.range(part)
        let source = run.inputBytes(0) + rows.lowerBound &* columns &* width
        let target = run.outputBytes(0) + rows.lowerBound &* count &* width
        withUnsafeTemporaryAllocation(of: Int.self, capacity: 128) { block in
          guard let offsets = block.baseAddress else { return }
          if count <= 128 {
            // Some rows at a time, which all lie alike.
            let together = max(1, min(128 / max(count, 1), rows.count))
            for row in 0..<together {
              for index in 0..<count { offsets[row &* count &+ index] = (row &* columns &+ positions[index]) &* width }
            }
            for row in stride(from: 0, to: rows.count, by: together) {
              gather(
                source + row &* columns &* width, offsets, min(together, rows.count &- row) &* count,
                target + row &* count &* width)
            }
            return
          }
          for row in 0..<rows.count {
            for done in stride(from: 0, to: count, by: 128) {
              let length = min(128, count &- done)
              for index in 0..<length { offsets[index] = positions[done &+ index] &* width }
              gather(source + row &* columns &* width, offsets, length, target + (row &* count &+ done) &* width)
            }
          }
        }
      }
    }
  }
}
