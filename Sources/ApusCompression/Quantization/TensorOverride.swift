// What users say of single values, and how files and other languages write it.

/// What the integers of one tensor are, where somebody knows better than the calibration. nil: as for others.
public struct TensorOverride: Sendable, Hashable {
  public var low: Float?
  public var high: Float?
  public var type: QuantizedType?
  public var isSymmetric: Bool?
  /// True: it stays in float, and so do the nodes that would read its integers.
  public var isFloat = false

  public init() {}
}

/// In JSON and YAML: `{"low": -1, "high": 1, "type": "int8", "symmetric": true}` or `{"float": true}`, of which all may
/// be left out.
extension TensorOverride: Decodable {
  private enum Member: String, CaseIterable { case low, high, type, symmetric, float }

  /// Throws `DecodingError` for members, types and ranges that are none.
  public init(from decoder: any Decoder) throws {
    let members = try decoder.container(keyedBy: MemberKey.self)
    func wrong(_ message: String) -> DecodingError {
      DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: message))
    }
    func key(_ member: Member) -> MemberKey { MemberKey(stringValue: member.rawValue) }
    if let unknown = members.allKeys.map(\.stringValue).filter({ Member(rawValue: $0) == nil }).min() {
      let known = Member.allCases.map(\.rawValue).joined(separator: ", ")
      throw wrong("there is no '\(unknown)'; expected some of \(known)")
    }
    low = try members.decodeIfPresent(Float.self, forKey: key(.low))
    high = try members.decodeIfPresent(Float.self, forKey: key(.high))
    isSymmetric = try members.decodeIfPresent(Bool.self, forKey: key(.symmetric))
    isFloat = try members.decodeIfPresent(Bool.self, forKey: key(.float)) ?? false
    for end in [low, high].compactMap(\.self) where !end.isFinite {
      throw wrong("a range that ends at \(end); expected a number")
    }
    if let low, let high, !(low < high) {
      throw wrong("a range from \(low) to \(high); expected the lower end first")
    }
    if let name = try members.decodeIfPresent(String.self, forKey: key(.type)) {
      guard let type = QuantizedType(rawValue: name) else {
        let types = QuantizedType.allCases.map(\.rawValue).joined(separator: ", ")
        throw wrong("there is no type '\(name)'; expected one of \(types)")
      }
      self.type = type
    }
  }
}

/// A member of an object by any name, so that those which nobody knows are found.
package struct MemberKey: CodingKey {
  package let stringValue: String
  package var intValue: Int? { nil }
  package init(stringValue: String) { self.stringValue = stringValue }
  package init?(intValue: Int) { nil }
}

extension CompressionError {
  /// What is wrong with a text of overrides or options; `source` says where it comes from.
  package init(_ error: DecodingError, in source: String, _ code: Code = .invalidFile) {
    let context =
      switch error {
      case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context),
        .dataCorrupted(let context):
        context
      @unknown default: DecodingError.Context(codingPath: [], debugDescription: "\(error)")
      }
    let path = context.codingPath.map(\.stringValue).joined(separator: ".")
    var message = [source, path, context.debugDescription].filter { !$0.isEmpty }.joined(separator: ": ")
    // Parsers quote the line that they cannot read, however long it is.
    if let cause = context.underlyingError { message += " (\("\(cause)".prefix(200)))" }
    self.init(code, message)
  }
}
