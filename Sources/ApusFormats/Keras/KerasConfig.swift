// Configurations of Keras: JSON objects whose members are asked for by name and type.

import ApusGraph

/// The members of a JSON object. Whatever is asked for is checked: an error names the member, what was expected and
/// what was found.
struct KerasConfig {
  let members: [String: JSONValue]
  /// Notes what is asked for.
  var reads: KerasReads?

  /// Nothing, if `value` is no object.
  init(_ value: JSONValue? = nil) {
    guard case .object(let entries)? = value else {
      members = [:]
      return
    }
    members = Dictionary(entries.map { ($0.key, $0.value) }, uniquingKeysWith: { _, last in last })
  }

  /// True for a member that is there and null.
  func isNull(_ key: String) -> Bool { members[key]?.isNull ?? false }

  /// A member that is there and not null.
  subscript(key: String) -> JSONValue? {
    reads?.names.insert(key)
    guard let value = members[key] else { return nil }
    if case .null = value { return nil }
    return value
  }

  /// The first of several names that is there; versions of Keras call things differently.
  subscript(keys: [String]) -> JSONValue? {
    reads?.names.formUnion(keys)
    for key in keys { if let value = self[key] { return value } }
    return nil
  }

  func object(_ key: String) -> KerasConfig { KerasConfig(self[key]) }

  /// The type that a layer computes in, or the name of its policy, such as `mixed_float16`.
  var policyName: String? { self["dtype"]?.text ?? object("dtype").object("config")["name"]?.text }

  func string(_ key: String) throws(OperatorError) -> String? {
    guard let value = self[key] else { return nil }
    guard let text = value.text else { throw value.unexpected("a string", as: key) }
    return text
  }

  func bool(_ key: String, default preset: Bool) throws(OperatorError) -> Bool {
    guard let value = self[key] else { return preset }
    guard let flag = value.flag else { throw value.unexpected("true or false", as: key) }
    return flag
  }

  func int(_ key: String) throws(OperatorError) -> Int? {
    guard let value = self[key] else { return nil }
    guard let number = value.smallInteger else { throw value.unexpected("an integer", as: key) }
    return number
  }

  func int(_ key: String, default preset: Int) throws(OperatorError) -> Int { try int(key) ?? preset }

  func requiredInt(_ key: String, in range: ClosedRange<Int> = 1...Int(Int32.max)) throws(OperatorError) -> Int {
    guard let number = try int(key) else { throw .invalid("'\(key)' is missing") }
    guard range.contains(number) else {
      throw .invalid("'\(key)' should be from \(range.lowerBound) to \(range.upperBound); it is \(number)")
    }
    return number
  }

  func double(_ keys: String..., default preset: Double) throws(OperatorError) -> Double {
    guard let value = self[keys] else { return preset }
    guard let number = value.double else { throw value.unexpected("a number", as: keys[0]) }
    return number
  }

  func optionalDouble(_ key: String) throws(OperatorError) -> Double? {
    guard let value = self[key] else { return nil }
    guard let number = value.double else { throw value.unexpected("a number", as: key) }
    return number
  }

  /// A list of integers; one integer is a list of one.
  func ints(_ key: String) throws(OperatorError) -> [Int]? {
    guard let value = self[key] else { return nil }
    guard let numbers = value.integers else { throw value.unexpected("integers", as: key) }
    return numbers
  }

  /// One integer from 1 on for each of `count` axes; a single one stands for all of them.
  func extents(_ key: String, count: Int, default preset: Int? = nil, from lowest: Int = 1) throws(OperatorError)
    -> [Int]
  {
    guard let numbers = try ints(key) else {
      guard let preset else { throw .invalid("'\(key)' is missing") }
      return [Int](repeating: preset, count: count)
    }
    let all = numbers.count == 1 ? [Int](repeating: numbers[0], count: count) : numbers
    guard all.count == count, all.allSatisfy({ (lowest...(1 << 20)).contains($0) }) else {
      throw .invalid("'\(key)' should be \(count) integers from \(lowest) to \(1 << 20); it is \(numbers)")
    }
    return all
  }
}

/// The names of the arguments that a rule asks for.
final class KerasReads {
  var names: Set<String> = []
}

extension JSONValue {

  var double: Double? {
    switch self {
    case .number(let text): Double(text)
    case .bool(let flag): flag ? 1 : 0
    default: nil
    }
  }

  /// An integer of at most 32 bits, so that sums and small products of them never overflow.
  var smallInteger: Int? {
    guard case .number(let text) = self else { return nil }
    if let number = Int(text) { return Int32(exactly: number).map { Int($0) } }
    return Double(text).flatMap { Int32(exactly: $0) }.map { Int($0) }
  }

  /// A list of integers, or of one.
  var integers: [Int]? {
    if let smallInteger { return [smallInteger] }
    guard let elements else { return nil }
    var numbers: [Int] = []
    for element in elements {
      guard let number = element.smallInteger else { return nil }
      numbers.append(number)
    }
    return numbers
  }

  func unexpected(_ expected: String, as key: String) -> OperatorError {
    .invalid("'\(key)' should be \(expected); it is \(kind)")
  }
}
