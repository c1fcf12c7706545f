// Overrides as files write them.

import ApusCompression
import Foundation
import Testing

@Suite struct TensorOverrideTests {
  private func decoded(_ text: String) throws -> [String: TensorOverride] {
    try JSONDecoder().decode([String: TensorOverride].self, from: Data(text.utf8))
  }

  @Test func membersMayBeLeftOut() throws {
    let overrides = try decoded(
      #"{"a": {"low": -1, "high": 1.5, "type": "int16", "symmetric": true}, "b": {"float": true}, "c": {}}"#)
    var a = TensorOverride()
    (a.low, a.high, a.type, a.isSymmetric) = (-1, 1.5, .int16, true)
    var b = TensorOverride()
    b.isFloat = true
    #expect(overrides == ["a": a, "b": b, "c": TensorOverride()])
  }

  @Test(arguments: [
    (#"{"a": {"lowest": 1}}"#, "a: there is no 'lowest'; expected some of low, high, type, symmetric, float"),
    (#"{"a": {"low": 1, "high": 1}}"#, "a: a range from 1.0 to 1.0"),
    (#"{"a": {"type": "int3"}}"#, "a: there is no type 'int3'; expected one of int8"),
    (#"{"a": {"low": "0"}}"#, "a.low: "), (#"{"a": 1}"#, "a: "), (#"[]"#, "FILE: "), (#"{"a": "#, "FILE: "),
  ])
  func whatIsNoneIsSaid(_ text: String, _ message: String) throws {
    let error = try #require(throws: DecodingError.self) { try decoded(text) }
    let told = CompressionError(error, in: "FILE").message
    #expect(told.hasPrefix("FILE: ") && told.contains(message), "\(told)")
  }
}
