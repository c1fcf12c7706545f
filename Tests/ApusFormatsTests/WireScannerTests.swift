// The scanner: what it lets through, what it refuses, and that protobuf's rules survive it.

import ApusFormats
import ApusTensor
import Testing

@Suite struct WireScannerTests {
  private func scan(
    _ bytes: [UInt8], as root: MessageType = .model, _ change: (inout LoadLimits) -> Void = { _ in }
  ) throws(LoadError) -> ScannedMessage {
    var limits = LoadLimits()
    change(&limits)
    return try WireScanner.scan(bytes.span, as: root, limits: limits)
  }

  private func error(
    _ bytes: [UInt8], as root: MessageType = .model, _ change: (inout LoadLimits) -> Void = { _ in }
  ) -> LoadError? {
    do {
      _ = try scan(bytes, as: root, change)
      return nil
    } catch {
      return error
    }
  }

  @Test func refusesWhatIsNoWireFormat() {
    let cases: [(bytes: [UInt8], message: String, offset: Int)] = [
      ([0x08], "cut off", 1),
      ([0x08] + [UInt8](repeating: 0x80, count: 10) + [0], "at most 64 bits", 1),
      ([0x08] + [UInt8](repeating: 0xFF, count: 9) + [2], "at most 64 bits", 1),
      ([0x00, 0x00], "field number", 0),
      ([0x0F], "wire type", 0),
      ([0x0B, 0x0C], "group", 0),
      (Wire.tag(7, 3), "group", 0),
      ([0x3A, 0x05, 0x00], "5 bytes are announced, but only 1", 2),
      (Wire.tag(7, 2) + Wire.varint(.max), "announced", 11),
      (Wire.tag(1 << 29, 0) + [0], "field number", 0),
      (Wire.int(7, 3), "wire type bytes; it has varint", 0),
    ]
    for (bytes, message, offset) in cases {
      let error = error(bytes)
      #expect(error?.code == .malformed, "\(bytes)")
      #expect(error?.message.contains(message) == true, "\(bytes): \(error?.message ?? "no error")")
      #expect(error?.byteOffset == offset, "\(bytes): \(String(describing: error?.byteOffset))")
    }
  }

  @Test func boundsInnerMessagesByOuterOnes() {
    // A node that claims more bytes than its graph has, though the file has them.
    let node = Wire.tag(1, 2) + Wire.varint(6) + [0x0A, 0x00]
    let error = error(Wire.data(7, node) + [UInt8](repeating: 0x08, count: 8))
    #expect(error?.message.contains("6 bytes are announced, but only 2") == true)
    #expect(error?.path == "graph")
  }

  @Test func keepsLimits() {
    /// A graph in an attribute of a node of a graph and so on, `depth` messages in each other.
    func nested(_ depth: Int) -> [UInt8] {
      var bytes: [UInt8] = []
      for level in (0..<depth).reversed() {
        bytes = Wire.data([7, 1, 5, 6, 1, 5][level < 3 ? level : 3 + level % 3], bytes)
      }
      return bytes
    }
    #expect(error(nested(100)) == nil)
    #expect(error(nested(101))?.code == .limitExceeded)
    #expect(error(nested(4)) { $0.maximumNesting = 3 }?.path == "graph.node.attribute")

    let nodes = (0..<10).flatMap { _ in Wire.data(1, []) }
    #expect(error(Wire.data(7, nodes)) { $0.maximumNodes = 10 } == nil)
    #expect(error(Wire.data(7, nodes)) { $0.maximumNodes = 9 }?.message.contains("maximumNodes is 9") == true)
    #expect(error(Wire.data(7, nodes)) { $0.maximumStructureBytes = 1000 }?.code == .limitExceeded)
    let floats = Wire.data(7, Wire.data(1, Wire.data(5, Wire.data(7, [UInt8](repeating: 0, count: 4000)))))
    #expect(error(floats) { $0.maximumStructureBytes = 8000 }?.code == .limitExceeded)
  }

  @Test func refusesBadText() {
    func named(_ name: [UInt8]) -> [UInt8] { Wire.data(7, Wire.data(2, name)) }
    #expect(error(named(Array("ünïcode/λ".utf8))) == nil)
    #expect(error(named([0x61, 0x00, 0x62]))?.message.contains("zero byte") == true)
    #expect(error(named([0xFF, 0xFE]))?.message.contains("UTF-8") == true)
    #expect(error(named([0xED, 0xA0, 0x80]))?.message.contains("UTF-8") == true, "a surrogate")
    #expect(error(Wire.data(6, [0xFF])) == nil, "text for people is repaired")
  }

  @Test func leavesOutUnknownFields() throws {
    let bytes =
      Wire.text(99, "unknown") + Wire.int(1, 8) + Wire.tag(1000, 1) + [UInt8](repeating: 1, count: 8)
      + Wire.tag(1001, 5) + [1, 2, 3, 4]
    let scanned = try scan(bytes)
    #expect(scanned.reduced == Wire.int(1, 8))
    #expect(try ProtobufUnpack.model(scanned).irVersion == 8)
  }

  @Test func filesCannotForgePayloads() throws {
    let forged = Wire.int(500_000_001, 0)
    let scanned = try scan(Wire.int(1, 1) + forged + Wire.data(500_000_001, [0, 1, 2]), as: .tensor)
    #expect(scanned.payloads.isEmpty)
    #expect(scanned.reduced == Wire.int(1, 1))
  }

  @Test func mergesLikeProtobuf() throws {
    // Singular fields: the last wins. Messages: merged, their repeated fields one after the other.
    let first = Wire.data(7, Wire.text(2, "first") + Wire.data(1, Wire.text(4, "A")))
    let second = Wire.data(7, Wire.data(1, Wire.text(4, "B")) + Wire.text(10, "text"))
    let model = try ProtobufUnpack.model(scan(Wire.int(1, 3) + first + Wire.int(1, 9) + second))
    #expect(model.irVersion == 9)
    #expect(model.graph?.name == "first")
    #expect(model.graph?.docString == "text")
    #expect(model.graph?.nodes.map(\.opType) == ["A", "B"])
  }

  @Test func readsPackedAndUnpackedScalars() throws {
    let unpacked = [5, -1, 300].flatMap { Wire.int(8, $0) }
    let packed = Wire.data(8, [5, -1, 300].flatMap { Wire.varint(UInt64(bitPattern: Int64($0))) })
    for ints in [unpacked, packed, Wire.int(8, 5) + Wire.data(8, Wire.varint(.max) + Wire.varint(300))] {
      let attribute = Wire.text(1, "a") + Wire.int(20, 7) + ints
      let model = try ProtobufUnpack.model(scan(Wire.data(7, Wire.data(1, Wire.data(5, attribute)))))
      guard case .ints(let values)? = model.graph?.nodes[0].attributes[0].content else {
        Issue.record("no ints")
        continue
      }
      #expect(values == [5, -1, 300])
    }
    #expect(
      error(Wire.data(7, Wire.data(1, Wire.data(5, Wire.data(7, [1, 2, 3])))))?.message.contains("multiple of 4")
        == true)
  }

  @Test func findsAttributeTypesOfOldFiles() throws {
    let attribute = Wire.text(1, "axis") + Wire.int(3, -2)
    let model = try ProtobufUnpack.model(scan(Wire.data(7, Wire.data(1, Wire.data(5, attribute)))))
    guard case .int(-2)? = model.graph?.nodes[0].attributes[0].content else {
      Issue.record("no int")
      return
    }
  }

  @Test func takesElementsOutOfTheMessage() throws {
    let raw = [UInt8](repeating: 7, count: 4000)
    let tensor = Wire.int(1, 1000) + Wire.int(2, 1) + Wire.data(9, raw) + Wire.text(8, "w")
    let scanned = try scan(Wire.data(7, Wire.data(5, tensor)))
    #expect(scanned.reduced.count < 60)
    #expect(scanned.payloads.map(\.range.count) == [4000])
    // Two runs of one field, one packed and one not, and elements between them.
    let mixed = Wire.int(7, 1) + Wire.int(7, 2) + Wire.int(2, 7) + Wire.int(7, 3) + Wire.data(7, [4, 5])
    let payloads = try scan(mixed, as: .tensor).payloads
    #expect(payloads.map(\.form) == [.tagged, .tagged, .packed])
    #expect(payloads.map(\.range.count) == [4, 2, 2])
  }
}
