// Operators of PyTorch that make tensors of nothing but numbers and shapes.

import ApusGraph
import ApusTensor

extension TorchRules {
  static let creationTable: [String: TorchRule] = [
    "zeros": full(0), "ones": full(1), "empty": full(0), "full": full(nil), "new_zeros": full(0), "new_ones": full(1),
    "new_empty": full(0), "new_full": full(nil), "zeros_like": fullLike(0), "ones_like": fullLike(1),
    "empty_like": fullLike(0), "full_like": fullLike(nil), "empty_permuted": full(0), "empty_strided": full(0),
    "new_empty_strided": full(0), "scalar_tensor": scalarTensor, "arange": range, "eye": identityMatrix,
    "linspace": linearSpace, "tril_indices": triangleIndices(upper: false),
    "triu_indices": triangleIndices(upper: true), "one_hot": oneHot,
  ]

  /// The value of `fill_value`, or the number that the operator is named after.
  private static func fill(_ number: Int?, _ call: TorchCall) throws(OperatorError) -> ValueID {
    let type = try call.resultType()
    if let number { return try call.constant(.integer(number), type) }
    return try call.operand("fill_value", as: type)
  }

  private static func full(_ number: Int?) -> TorchRule {
    { (call) throws(OperatorError) in
      let sizes = try call.sizes("size") ?? []
      let value = try fill(number, call)
      return [sizes.isEmpty ? value : try call.layers.emit("Expand", [value, try call.shapeTensor(sizes)])]
    }
  }

  private static func fullLike(_ number: Int?) -> TorchRule {
    { (call) throws(OperatorError) in
      let shape = try call.shapeTensor(try call.tensor(at: 0))
      return [try call.layers.emit("Expand", [try fill(number, call), shape])]
    }
  }

  private static func scalarTensor(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    [try call.operand("s", as: try call.resultType())]
  }

  private static func range(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let type = try call.resultType()
    // Half floats are counted in float32, as torch does.
    let used: DataType =
      [.float16, .bfloat16].contains(type) ? .float32 : type.isFloat || type == .int32 ? type : .int64
    let start = call.has("start") ? try call.operand("start", as: used) : try call.constant(.integer(0), used)
    let step = call.has("step") ? try call.operand("step", as: used) : try call.constant(.integer(1), used)
    return [try call.layers.emit("Range", [start, try call.operand("end", as: used), step])]
  }

  private static func identityMatrix(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let rows = try call.int("n")
    let columns = call.has("m") ? try call.int("m") : rows
    guard rows >= 0, columns >= 0, rows <= (1 << 26) / max(columns, 1) else {
      throw .unsupported("a matrix of \(rows) rows")
    }
    let type = try call.resultType()
    let zeros = try call.layers.emit(
      "Expand", [try call.constant(.integer(0), .float32), call.layers.integers([rows, columns])])
    return [try call.layers.cast(try call.layers.emit("EyeLike", [zeros]), to: type)]
  }

  /// torch counts from the start in the first half and from the end in the second.
  private static func linearSpace(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let (start, end) = (try call.real("start"), try call.real("end"))
    let steps = try call.int("steps")
    guard (0...(1 << 24)).contains(steps) else { throw .unsupported("\(steps) steps") }
    let type = try call.resultType()
    let step = steps > 1 ? (end - start) / Double(steps - 1) : 0
    let numbers: [Double]
    if type == .float64 {
      numbers = (0..<steps).map { $0 < steps / 2 ? start + step * Double($0) : end - step * Double(steps - 1 - $0) }
    } else {
      let (first, last) = (Float(start), Float(end))
      let step = steps > 1 ? (last - first) / Float(steps - 1) : 0
      numbers = (0..<steps).map { index in
        Double(index < steps / 2 ? first + step * Float(index) : last - step * Float(steps - 1 - index))
      }
    }
    return [try call.layers.cast(call.layers.constant(Tensor(numbers)), to: type)]
  }

  private static func triangleIndices(upper: Bool) -> TorchRule {
    { (call) throws(OperatorError) in
      let (rows, columns) = (try call.int("row"), try call.int("col"))
      let offset = try call.int("offset", 0)
      let most = 1 << 24
      guard (0...most).contains(rows), (0...most).contains(columns), rows * columns <= most else {
        throw .unsupported("the indices of a triangle of \(rows) rows and \(columns) columns")
      }
      let limit = min(max(offset, -most), most)
      var (first, second): ([Int64], [Int64]) = ([], [])
      for row in 0..<rows {
        for column in 0..<columns where upper ? column - row >= limit : column - row <= limit {
          first.append(Int64(row))
          second.append(Int64(column))
        }
      }
      return [call.layers.constant(Tensor(first + second, shape: [2, first.count]))]
    }
  }

  private static func oneHot(_ call: TorchCall) throws(OperatorError) -> [ValueID?] {
    let count = try call.int("num_classes", -1)
    guard count > 0 else {
      throw .unsupported("one_hot of as many classes as the largest number says", remedy: "Give num_classes")
    }
    let values = call.layers.constant(Tensor([Int64(0), 1]))
    return [
      try call.layers.emit(
        "OneHot", [try call.tensor("self"), call.layers.constant(Tensor(scalar: Int64(count))), values],
        [("axis", .int(-1))])
    ]
  }
}
