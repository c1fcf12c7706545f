// The forms of an ONNX file: binary, protobuf text, protobuf JSON and ONNX's own text, told from the bytes, and each
// read into and written from the binary one. All fields of onnx.proto go through, those too that running needs not.

import ApusTensor

/// A way to write a model in a file: told from bytes, read into the binary form of ONNX, written from it. Importers of
/// other frameworks join here, by the model that they made.
package protocol ModelFormat: Sendable {
  /// The name on command lines.
  var name: String { get }
  /// What people call it.
  var title: String { get }
  /// Endings of file names, without the point; the first is the usual one.
  var endings: [String] { get }

  /// True if the bytes of a file are of this format.
  func recognizes(_ bytes: Span<UInt8>) -> Bool

  /// The model in the binary form.
  func read(_ file: FileBytes, limits: LoadLimits, account: MemoryAccount?) throws(LoadError) -> FileBytes

  /// Writes a model that is there in the binary form, piece by piece. Returns what the format has no place for.
  func write(
    _ model: FileBytes, to flush: @escaping (borrowing Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) -> [String]
}

/// The formats of ONNX itself.
package enum ModelForm: String, ModelFormat, CaseIterable {
  case binary = "onnx"
  case textproto, json, onnxtxt

  package var name: String { rawValue }

  package var title: String {
    switch self {
    case .binary: "ONNX"
    case .textproto: "ONNX as protobuf text"
    case .json: "ONNX as protobuf JSON"
    case .onnxtxt: "ONNX in its own text syntax"
    }
  }

  package var endings: [String] {
    switch self {
    case .binary: ["onnx", "pb"]
    case .textproto: ["textproto", "pbtxt", "prototxt", "txtpb"]
    case .json: ["json", "onnxjson"]
    case .onnxtxt: ["onnxtxt", "onnxtext"]
    }
  }

  /// The format whose files end as `path` does; nil if none is known.
  package init?(path: String) {
    guard let ending = path.split(separator: "/").last?.split(separator: ".").dropFirst().last?.lowercased(),
      let form = Self.allCases.first(where: { $0.endings.contains(ending) })
    else { return nil }
    self = form
  }

  // MARK: Recognition

  package func recognizes(_ bytes: Span<UInt8>) -> Bool { Self.text(bytes) == (self == .binary ? nil : self) }

  /// The textual form that the bytes begin like; nil if they are no text of a model.
  package static func text(_ bytes: Span<UInt8>) -> ModelForm? {
    let model = ProtoSchema.messages[ProtoSchema.model]
    var cursor = TextCursor(bytes, hasComments: true)
    guard let first = cursor.next(bytes) else { return nil }
    switch first {
    case UInt8(ascii: "{"):
      cursor.position += 1
      guard cursor.next(bytes) == 0x22 else { return nil }
      cursor.position += 1
      let name = cursor.identifier(bytes)
      return model.index(named: name, in: bytes, json: true) == nil ? nil : .json
    case UInt8(ascii: "<"):
      cursor.position += 1
      let word = cursor.identifier(bytes)
      guard word.count < 20, ONNXTextNames.headerWords.contains(cursor.string(bytes, word)) else { return nil }
      return cursor.next(bytes) == UInt8(ascii: ":") ? .onnxtxt : nil
    default:
      let word = cursor.identifier(bytes)
      guard !word.isEmpty, let next = cursor.next(bytes) else { return nil }
      if next == UInt8(ascii: "(") { return hasArrow(bytes) ? .onnxtxt : nil }
      let isField = [UInt8(ascii: ":"), UInt8(ascii: "{"), UInt8(ascii: "<")].contains(next)
      return isField && model.index(named: word, in: bytes) != nil ? .textproto : nil
    }
  }

  /// Bytes in which the signature of a graph without a header must end.
  private static let signatureReach = 1 << 16

  private static func hasArrow(_ bytes: Span<UInt8>) -> Bool {
    for index in 0..<max(0, min(bytes.count, signatureReach) - 1)
    where bytes[index] == UInt8(ascii: "=") && bytes[index + 1] == UInt8(ascii: ">") { return true }
    return false
  }

  // MARK: Reading and writing

  package func read(
    _ file: FileBytes, limits: LoadLimits, account: MemoryAccount?
  ) throws(LoadError) -> FileBytes {
    do throws(LoadError) {
      let binary = try file.withBytes { (bytes: Span<UInt8>) throws(LoadError) -> [UInt8] in
        switch self {
        case .binary: []
        case .textproto: try ProtobufTextParser.parse(bytes, limits: limits)
        case .json: try ProtobufJSONParser.parse(bytes, limits: limits)
        case .onnxtxt: try ONNXTextParser.parse(bytes, limits: limits)
        }
      }
      return self == .binary ? file : try FileBytes(copying: binary, name: file.name, account: account)
    } catch {
      throw error.inFile(file.name)
    }
  }

  package func write(
    _ model: FileBytes, to flush: @escaping (borrowing Span<UInt8>) throws(LoadError) -> Void
  ) throws(LoadError) -> [String] {
    do throws(LoadError) {
      return try model.withBytes { (bytes: Span<UInt8>) throws(LoadError) -> [String] in
        switch self {
        case .binary:
          try flush(bytes)
          return []
        case .textproto: return try ProtobufTextPrinter.print(bytes, to: flush).sorted()
        case .json: return try ProtobufJSONPrinter.print(bytes, to: flush).sorted()
        case .onnxtxt: return try ONNXTextPrinter.print(bytes, to: flush).sorted()
        }
      }
    } catch {
      throw error.inFile(model.name)
    }
  }

  /// The model as text, in memory.
  package func text(of model: FileBytes) throws(LoadError) -> [UInt8] {
    var text: [UInt8] = []
    _ = try write(model) { (piece) throws(LoadError) in text.append(contentsOf: piece) }
    return text
  }

  /// Throws unless `text`, read and written again, is the same text: then nothing of the model was lost on the way.
  package func check(
    _ text: FileBytes, limits: LoadLimits, account: MemoryAccount?
  ) throws(LoadError) {
    let again = try read(text, limits: limits, account: account)
    var position = 0
    let written = try self.text(of: again)
    let isSame = text.withBytes { (bytes: Span<UInt8>) -> Bool in
      guard bytes.count == written.count else { return false }
      while position < written.count, bytes[position] == written[position] { position += 1 }
      return position == written.count
    }
    if !isSame {
      throw LoadError(
        .cannotWrite, "the text does not say the same model when it is read again: they differ at byte \(position)",
        remedy: "Please report this with the model")
    }
  }
}

extension [UInt8] {
  mutating func append(contentsOf piece: borrowing Span<UInt8>) {
    for index in piece.indices { append(piece[index]) }
  }
}
