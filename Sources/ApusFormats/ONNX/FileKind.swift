// What a file is that was given as an ONNX model and is none: told from its first bytes, for the error that names it.

/// A kind of file that people take for a model.
struct FileKind: Sendable {
  /// With its article: "a web page (HTML)".
  let name: String
  /// What the user can do; empty if nothing is known.
  let remedy: String

  private init(_ name: String, _ remedy: String = "") { (self.name, self.remedy) = (name, remedy) }

  /// Bytes at the beginning that are looked at.
  private static let reach = 4096

  /// The kind of a file that is not empty; nil if nothing is known of it.
  init?(_ bytes: Span<UInt8>) {
    var head: [UInt8] = []
    for index in 0..<min(bytes.count, FileKind.reach) { head.append(bytes[index]) }
    guard !head.isEmpty,
      let kind = FileKind.signed(head) ?? FileKind.serialized(head, fileSize: bytes.count) ?? FileKind.text(head)
    else { return nil }
    self = kind
  }
}

// MARK: - Signatures

extension FileKind {
  private static let fromPyTorch = "Export the model with torch.onnx.export"
  private static let fromTensorFlow = "Convert it with tf2onnx"
  private static let decompress = "Decompress it first"

  private struct Signature: Sendable {
    let offset: Int
    let bytes: [UInt8]
    let kind: FileKind

    init(_ bytes: [UInt8], at offset: Int = 0, _ name: String, _ remedy: String = "") {
      (self.bytes, self.offset, kind) = (bytes, offset, FileKind(name, remedy))
    }

    init(_ text: String, at offset: Int = 0, _ name: String, _ remedy: String = "") {
      self.init(Array(text.utf8), at: offset, name, remedy)
    }
  }

  private static let signatures: [Signature] = [
    Signature(
      "version https://git-lfs.github.com/spec/", "a Git LFS pointer, not the file it points to", "Run `git lfs pull`"),
    Signature("ORTM", at: 4, "a model in ONNX Runtime's own format (.ort)", "Use the ONNX model that it was made from"),
    Signature("TFL3", at: 4, "a TensorFlow Lite model", fromTensorFlow),
    Signature([0x89] + Array("HDF\r\n".utf8), "an HDF5 file, as Keras writes (.h5)", fromTensorFlow),
    Signature("GGUF", "a GGUF file of llama.cpp"),
    Signature(CompiledFormat.magic, "a compiled model of Apus", "Use the ONNX model that it was made from"),
    Signature([0x93] + Array("NUMPY".utf8), "a NumPy array (.npy)"),
    Signature([0x1F, 0x8B], "compressed by gzip", decompress),
    Signature([0xFD] + Array("7zXZ".utf8), "compressed by xz", decompress),
    Signature([0x28, 0xB5, 0x2F, 0xFD], "compressed by zstd", decompress),
    Signature("BZh", "compressed by bzip2", decompress),
    Signature([0x37, 0x7A, 0xBC, 0xAF, 0x27, 0x1C], "a 7z archive", decompress),
    Signature("ustar", at: 257, "a tar archive", "Unpack it and give the .onnx file in it"),
    Signature([0x89] + Array("PNG".utf8), "a picture (PNG)"),
    Signature([0xFF, 0xD8, 0xFF], "a picture (JPEG)"),
    Signature("%PDF", "a PDF document"),
    Signature([0x7F] + Array("ELF".utf8), "a program or library (ELF)"),
  ]

  private static func signed(_ head: [UInt8]) -> FileKind? {
    if let found = signatures.first(where: { head.dropFirst($0.offset).starts(with: $0.bytes) }) { return found.kind }
    if head.starts(with: Array("PK".utf8) + [3, 4]) || head.starts(with: Array("PK".utf8) + [5, 6]) {
      return zip(head)
    }
    // A protocol of pickle, 2 to 5, then an opcode of what a checkpoint may begin with.
    if head.count > 2, head[0] == 0x80, (2...5).contains(head[1]) {
      return FileKind(
        "a Python pickle, as PyTorch and scikit-learn write", fromPyTorch + ", or convert it with skl2onnx")
    }
    if !head.isEmpty, head.prefix(64).allSatisfy({ $0 == 0 }) {
      return FileKind("filled with zeros, as an interrupted download leaves it", "Fetch it again")
    }
    return nil
  }

  private static func zip(_ head: [UInt8]) -> FileKind {
    if contains(head, "data.pkl") { return FileKind("a PyTorch checkpoint (zip)", fromPyTorch) }
    if contains(head, ".npy") { return FileKind("an archive of NumPy arrays (.npz)") }
    return FileKind("a zip archive", "Unpack it and give the .onnx file in it")
  }

  private static func contains(_ head: [UInt8], _ text: String) -> Bool {
    let wanted = Array(text.utf8)
    return head.indices.contains { head[$0...].starts(with: wanted) }
  }
}

// MARK: - Serialized structures without a signature

extension FileKind {
  private static func serialized(_ head: [UInt8], fileSize: Int) -> FileKind? {
    // The length of a JSON text in eight bytes, then the text.
    if head.count > 9, head[8] == UInt8(ascii: "{"),
      case let length = head[..<8].reversed().reduce(UInt64(0), { $0 << 8 | UInt64($1) }), length > 1, length < 1 << 32,
      length + 8 <= UInt64(fileSize)
    {
      return FileKind("a safetensors file, which holds weights without a graph", fromPyTorch)
    }
    if isGraphDef(head) { return FileKind("a TensorFlow graph (GraphDef, .pb)", fromTensorFlow) }
    let marks = ["serving_default", "StatefulPartitionedCall", "VarHandleOp", "saved_model"]
    if head.starts(with: [0x08, 0x01, 0x12]), marks.contains(where: { contains(head, $0) }) {
      return FileKind("a TensorFlow SavedModel", fromTensorFlow)
    }
    return nil
  }

  /// True if the bytes begin with a message in field 1 that has printable strings in fields 1 and 2: a node with its
  /// name and its operation.
  private static func isGraphDef(_ head: [UInt8]) -> Bool {
    var position = 0
    func length(after tag: UInt8) -> Int? {
      guard position < head.count, head[position] == tag else { return nil }
      position += 1
      var (value, shift) = (0, 0)
      while position < head.count, shift < 35 {
        let byte = head[position]
        position += 1
        value |= Int(byte & 0x7F) << shift
        if byte < 0x80 { return value }
        shift += 7
      }
      return nil
    }
    func hasText(after tag: UInt8) -> Bool {
      guard let count = length(after: tag), count > 0, count <= head.count - position else { return false }
      defer { position += count }
      return head[position..<position + count].allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }
    return length(after: 0x0A) != nil && hasText(after: 0x0A) && hasText(after: 0x12)
  }
}

// MARK: - Text

extension FileKind {
  private static func text(_ head: [UInt8]) -> FileKind? {
    let isPrintable = head.allSatisfy { $0 >= 0x20 && $0 != 0x7F || [0x09, 0x0A, 0x0C, 0x0D].contains($0) }
    // The last character may be cut.
    guard isPrintable, let all = String(validating: head.reversed().drop { $0 >= 0x80 }.reversed(), as: UTF8.self)
    else {
      return nil
    }
    var text = all.lowercased()[...]
    text = text.drop { $0.isWhitespace || $0 == "\u{FEFF}" }
    if text.hasPrefix("<!doctype html") || text.hasPrefix("<html") || text.contains("<head") {
      return FileKind("a web page (HTML)", "Fetch the file itself: a download link, not the page that shows it")
    }
    if text.hasPrefix("<?xml") || text.hasPrefix("<net") {
      return FileKind("an XML file, as of OpenVINO or of a server's error")
    }
    if text.contains("/annex/objects/") {
      return FileKind("a git-annex pointer, not the file it points to", "Run `git annex get`")
    }
    if text.hasPrefix("{") || text.hasPrefix("[") { return FileKind("a JSON text") }
    if text.hasPrefix("node {") || text.hasPrefix("node{") {
      return FileKind("a TensorFlow graph as text", fromTensorFlow)
    }
    return FileKind("a text", "Give the .onnx file")
  }
}
