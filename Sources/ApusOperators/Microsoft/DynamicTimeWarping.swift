// DynamicTimeWarping: the cheapest path through a matrix of costs.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.DynamicTimeWarping
// Versions: 1.

import ApusGraph
import ApusTensor

struct DynamicTimeWarping: OperatorDefinition {
  let schema = OperatorSchema(
    "DynamicTimeWarping", domain: "com.microsoft", versions: [1], inputs: [.required("input", "F")],
    outputs: [.required("output", "I")], types: ["F": .float32, "I": .int32])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let shape = context.shape(0), shape.count != 2, shape.count != 3 || shape[0].isSurelyDifferent(from: 1) {
      throw .mismatch("the input is \(shape.text); expected [rows, columns] or [1, rows, columns]")
    }
    context.set(0, .int32, [2, .unknown])
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    .eager { (inputs, context) throws(OperatorError) in
      let input = try inputs.tensor(0)
      let shape = input.shape
      guard shape.rank == 2 || (shape.rank == 3 && shape[0] == 1), let costs = input.elements(as: Float.self) else {
        throw .mismatch("the input is \(input.dataType)\(shape); expected [rows, columns] or [1, rows, columns]")
      }
      let (rows, columns) = (shape[shape.rank - 2], shape[shape.rank - 1])
      try context.check(allocating: costs.count, of: 5)
      // Two lines of sums, and the path, of at most as many points as there are rows and columns.
      try context.check(allocating: rows, of: 32)
      try context.check(allocating: columns, of: 32)
      let path = DynamicTimeWarping.path(costs, rows, columns)
      let places = path.map { Int32($0.row) } + path.map { Int32($0.column) }
      return [.tensor(Tensor(places, shape: [2, path.count]))]
    }
  }

  private static func path(_ costs: [Float], _ rows: Int, _ columns: Int) -> [(row: Int, column: Int)] {
    // Of the moves to a point: 0 along both axes, 1 along the rows, 2 along the columns.
    var moves = [UInt8](repeating: 2, count: rows * columns)
    var former = [Float](repeating: .infinity, count: rows + 1)
    former[0] = 0
    for column in 0..<columns {
      var current = [Float](repeating: .infinity, count: rows + 1)
      for row in 0..<rows {
        let (both, down, right) = (former[row], current[row], former[row + 1])
        let move: UInt8 = both < down && both < right ? 0 : down < both && down < right ? 1 : 2
        moves[row * columns + column] = move
        current[row + 1] = (move == 0 ? both : move == 1 ? down : right) + costs[row * columns + column]
      }
      former = current
    }
    var path: [(row: Int, column: Int)] = []
    var (row, column) = (rows - 1, columns - 1)
    while row >= 0 && column >= 0 {
      path.append((row, column))
      let move = moves[row * columns + column]
      if move != 2 { row -= 1 }
      if move != 1 { column -= 1 }
    }
    return path.reversed()
  }
}
