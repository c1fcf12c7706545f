// Breaks JSON as what it is: values, members and lists go, come twice, change places, lie in each other thousands of
// times; numbers and names become others.

import ApusOperators

enum JSONMutator {
  private struct Value {
    var range: Range<Int>
    /// A text that names a member.
    var isKey: Bool
  }

  /// One thing wrong. What is no JSON stays as it is.
  static func mutate(_ bytes: inout [UInt8], _ random: inout SplitMix64) {
    let values = values(of: bytes)
    guard !values.isEmpty else { return }
    let value = values[random.below(values.count)]
    let other = values[random.below(values.count)]
    switch (value.isKey, random.below(10)) {
    case (true, 0), (false, 0): remove(value, from: &bytes)
    case (true, 1), (false, 1): double(value, values, in: &bytes, &random)
    case (true, _):
      let key = random.below(3) == 0 ? Array("\"\(word(&random))\"".utf8) : Array(bytes[other.range])
      bytes.replaceSubrange(value.range, with: other.isKey || key.count < 40 ? key : Array("\"\"".utf8))
    case (false, 2), (false, 3): bytes.replaceSubrange(value.range, with: Array(bytes[other.range]))
    case (false, 4): nest(value.range, in: &bytes, &random)
    default: bytes.replaceSubrange(value.range, with: replacement(for: Array(bytes[value.range]), &random))
    }
  }

  /// Other values of the kind of the old one, mostly.
  private static func replacement(for old: [UInt8], _ random: inout SplitMix64) -> [UInt8] {
    let isNumber = old.first.map { $0 == 45 || (48..<58).contains($0) } ?? false
    if random.below(8) > 0, isNumber {
      let number = Int(String(decoding: old, as: UTF8.self)) ?? 0
      let edge = edges[random.below(edges.count)]
      let texts = [
        "\(edge)", "\(0 &- edge)", "\(number &+ random.below(5) &- 2)", "\(0 &- number)", "\(Int.min)", "1e308", "0.5",
        "-1", "0", "1e-320", "18446744073709551616", "\(1 << random.below(63))", "\(number &* 1024)",
      ]
      return Array(texts[random.below(texts.count)].utf8)
    }
    if random.below(4) > 0, old.first == 0x22 { return Array("\"\(word(&random))\"".utf8) }
    let texts = [
      "null", "true", "false", "[]", "{}", "[[]]", "[null]", "\"\"", "-1", "0", "1", "[-1]", "[0]", "[1,1]",
      "[9223372036854775807,9223372036854775807]", "{\"class_name\":\"Dense\",\"config\":{}}",
      "{\"as_tensor\":{\"name\":\"x\"}}", "\"\\u0000\"", "\"\\ud800\"",
    ]
    return Array(texts[random.below(texts.count)].utf8)
  }

  /// Words that mean something in the formats, and texts that mean nothing.
  private static func word(_ random: inout SplitMix64) -> String {
    let words = [
      "float32", "int64", "bfloat16", "string", "channels_first", "same", "valid", "causal", "relu", "softmax",
      "Dense", "Functional", "Sequential", "LSTM", "Bidirectional", "TimeDistributed", "InputLayer", "Lambda",
      "keras.layers", "class_name", "config", "name", "x", "", "../x", "/", "a/b", "s0", "Max(s0, s1)", "2*s0 + s1**8",
      "s0**s0", "-s0", "torch.ops.aten.add.Tensor", "torch.ops.aten.view.default", "torch.ops.higher_order.cond",
      "as_tensors", "as_ints", "\\u00e9", "((((((((((", "1e999",
    ]
    return words[random.below(words.count)]
  }

  /// Takes a value away with the comma before or behind it, and with its key, or the value of a key.
  private static func remove(_ value: Value, from bytes: inout [UInt8]) {
    var (start, end) = (value.range.lowerBound, value.range.upperBound)
    while end < bytes.count, isSpace(bytes[end]) { end += 1 }
    if end < bytes.count, bytes[end] == 0x2C {
      end += 1
    } else {
      while start > 0, isSpace(bytes[start - 1]) { start -= 1 }
      if start > 0, bytes[start - 1] == 0x2C { start -= 1 }
    }
    bytes.removeSubrange(start..<end)
  }

  /// Repeats a value of a list, or a member with its value, up to some hundred times.
  private static func double(
    _ value: Value, _ values: [Value], in bytes: inout [UInt8], _ random: inout SplitMix64
  ) {
    var part = Array(bytes[value.range])
    if value.isKey, let next = values.first(where: { $0.range.lowerBound >= value.range.upperBound }) {
      part = Array(bytes[value.range.lowerBound..<next.range.upperBound])
    }
    let times = min(1 << random.below(9), max(1, 100_000 / max(part.count, 1)))
    var copies: [UInt8] = []
    for _ in 0..<times { copies += part + [0x2C] }
    bytes.insert(contentsOf: copies, at: value.range.lowerBound)
  }

  /// Puts a value into lists or members, as deep as 16,000.
  private static func nest(_ range: Range<Int>, in bytes: inout [UInt8], _ random: inout SplitMix64) {
    let pairs = [
      ("[", "]"), ("{\"config\":", "}"), ("{\"class_name\":\"TimeDistributed\",\"config\":{\"layer\":", "}}"),
      ("{\"class_name\":\"Sequential\",\"config\":{\"layers\":[", "]}}"),
    ]
    let (open, close) = pairs[random.below(pairs.count)]
    let depth = 1 << random.below(15)
    var made: [UInt8] = []
    for _ in 0..<depth { made += Array(open.utf8) }
    made += bytes[range]
    for _ in 0..<depth { made += Array(close.utf8) }
    bytes.replaceSubrange(range, with: made)
  }

  private static func isSpace(_ byte: UInt8) -> Bool { [0x20, 0x09, 0x0A, 0x0D].contains(byte) }

  /// What ends a number or a word.
  private static let marks: [UInt8] = [0x2C, 0x3A, 0x5B, 0x5D, 0x7B, 0x7D, 0x22]

  /// All values of a text, those inside of others too, by where they begin.
  private static func values(of bytes: [UInt8]) -> [Value] {
    var values: [Value] = []
    var open: [Int] = []
    var position = 0
    while position < bytes.count {
      let start = position
      switch bytes[position] {
      case 0x5B, 0x7B:
        open.append(values.count)
        values.append(Value(range: start..<start + 1, isKey: false))
        position += 1
      case 0x5D, 0x7D:
        position += 1
        if let index = open.popLast() { values[index].range = values[index].range.lowerBound..<position }
      case 0x22:
        position += 1
        while position < bytes.count, bytes[position] != 0x22 { position += bytes[position] == 0x5C ? 2 : 1 }
        position = min(position + 1, bytes.count)
        var next = position
        while next < bytes.count, isSpace(bytes[next]) { next += 1 }
        values.append(Value(range: start..<position, isKey: next < bytes.count && bytes[next] == 0x3A))
      case 0x2C, 0x3A: position += 1
      case let byte where isSpace(byte): position += 1
      default:
        while position < bytes.count, !isSpace(bytes[position]), !marks.contains(bytes[position]) { position += 1 }
        values.append(Value(range: start..<position, isKey: false))
      }
    }
    return values
  }
}
