// StringSplit: strings cut at a delimiter or at white space. https://onnx.ai/onnx/operators/onnx__StringSplit.html
// Versions: 20.

import ApusGraph
import ApusTensor

struct StringSplit: OperatorDefinition {
  let schema = OperatorSchema(
    "StringSplit", versions: [20],
    inputs: [.required("X", "T1")],
    outputs: [.required("Y", "T2"), .required("Z", "T3")],
    attributes: [.optional("delimiter", .string), .optional("maxsplit", .int)],
    types: ["T1": .string, "T2": .string, "T3": .int64])

  func infer(_ context: inout InferenceContext) throws(OperatorError) {
    context.set(0, .string, context.shape(0).map { $0 + [.unknown] })
    context.set(1, .int64, context.shape(0))
  }

  func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let delimiter = Array((context.optionalString("delimiter") ?? "").utf8)
    let given = context.optionalInt("maxsplit") ?? -1
    let limit = given < 0 ? Int.max : given
    return .eager { (inputs, context) throws(OperatorError) in
      let input = try inputs.tensor(0)
      guard let strings = input.strings else { throw .mismatch("the input is \(input.dataType); expected strings") }
      var pieces: [[String]] = []
      var cost = 0
      for string in strings {
        let row =
          delimiter.isEmpty
          ? StringSplit.words(string, limit: limit) : StringSplit.split(string, at: delimiter, limit: limit)
        cost += TensorStorage.cost(of: row)
        try context.check(allocating: cost)
        pieces.append(row)
      }
      let width = pieces.map(\.count).max() ?? 0
      let (total, overflow) = width.multipliedReportingOverflow(by: strings.count)
      try context.check(allocating: overflow ? .max : total, of: MemoryLayout<String>.stride)
      var padded: [String] = []
      padded.reserveCapacity(width * strings.count)
      for row in pieces {
        padded += row
        padded += repeatElement("", count: width - row.count)
      }
      let counts = Tensor(pieces.map(\.count), shape: input.shape)
      let result = try context.tensor(strings: padded, shape: Shape(input.shape.dims + [width]))
      return [.tensor(result), .tensor(counts)]
    }
  }

  /// What stands between white space, which is that of Unicode and the four separators of ASCII. After `limit` pieces
  /// the rest is one, without white space around it.
  private static func words(_ text: String, limit: Int) -> [String] {
    func isSpace(_ scalar: Unicode.Scalar) -> Bool {
      scalar.properties.isWhitespace || (0x1C...0x1F).contains(scalar.value)
    }
    let scalars = text.unicodeScalars
    var pieces: [String] = []
    var position = scalars.startIndex
    while true {
      while position < scalars.endIndex, isSpace(scalars[position]) { position = scalars.index(after: position) }
      if position == scalars.endIndex { return pieces }
      var end = position
      if pieces.count == limit {
        end = scalars.endIndex
        while isSpace(scalars[scalars.index(before: end)]) { end = scalars.index(before: end) }
        pieces.append(String(scalars[position..<end]))
        return pieces
      }
      while end < scalars.endIndex, !isSpace(scalars[end]) { end = scalars.index(after: end) }
      pieces.append(String(scalars[position..<end]))
      position = end
    }
  }

  private static func split(_ text: String, at delimiter: [UInt8], limit: Int) -> [String] {
    let bytes = Array(text.utf8)
    var pieces: [String] = []
    var (start, position) = (0, 0)
    while position + delimiter.count <= bytes.count, pieces.count < limit {
      if bytes[position] == delimiter[0], bytes[position..<position + delimiter.count].elementsEqual(delimiter) {
        pieces.append(String(decoding: bytes[start..<position], as: UTF8.self))
        position += delimiter.count
        start = position
      } else {
        position += 1
      }
    }
    pieces.append(String(decoding: bytes[start...], as: UTF8.self))
    return pieces
  }
}
