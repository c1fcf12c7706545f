// NumPy arrays and archives: every type, order and byte order, compression, and broken files.

import ApusContainers
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct ArrayFileTests {
  private func arrays(_ name: String) throws -> [String: Tensor] {
    let declared: [String: DataType] = ["bfloat16": .bfloat16, "int4": .int4]
    let arrays = try Npz.decode(Samples.file(name), as: declared)
    return Dictionary(uniqueKeysWithValues: arrays.map { ($0.name, $0.tensor) })
  }

  @Test(arguments: ["arrays.npz", "compressed.npz"])
  func readsEveryType(_ name: String) throws {
    let arrays = try arrays(name)
    let types: [(String, DataType)] = [
      ("bool", .bool), ("int8", .int8), ("uint8", .uint8), ("int16", .int16), ("uint16", .uint16), ("int32", .int32),
      ("uint32", .uint32), ("int64", .int64), ("uint64", .uint64), ("float16", .float16), ("float32", .float32),
      ("float64", .float64), ("complex64", .complex64), ("complex128", .complex128),
    ]
    for (name, type) in types {
      #expect(arrays[name]?.dataType == type, "\(name)")
      #expect(arrays[name]?.shape == [2, 3, 4], "\(name)")
    }
    let expected = Array(0..<24)
    #expect(arrays["int64"]?.elements(as: Int.self) == expected)
    #expect(arrays["uint16"]?.elements(as: UInt16.self) == expected.map { UInt16($0) })
    #expect(arrays["float16"]?.elements(as: Float16.self) == expected.map { Float16($0) })
    #expect(arrays["complex64"]?.elements(as: Complex64.self)?[5] == Complex64(5, 0))
    #expect(arrays["bool"]?.elements(as: Bool.self) == expected.map { $0 % 3 == 0 })
    #expect(arrays["fortran"]?.elements(as: Float.self) == expected.map { Float($0) })
    #expect(arrays["big"]?.elements(as: Int32.self) == expected.map { Int32($0) })
    #expect(arrays["big-complex"]?.elements(as: Complex64.self)?[7] == Complex64(7, 1))
    #expect(arrays["unicode"]?.strings == ["swift", "雨燕", "", "é"])
    #expect(arrays["big-unicode"]?.strings == ["swift", "雨燕"])
    #expect(arrays["bytes"]?.strings == ["ab", "c"])
    #expect(arrays["scalar"]?.shape == [] && arrays["scalar"]?.elements(as: Double.self) == [2.5])
    #expect(arrays["empty"]?.shape == [0, 3])
    #expect(arrays["bfloat16"]?.elements(as: BFloat16.self)?.map(\.float) == [1, -2, 0.5])
    #expect(arrays["int4"]?.withUnsafeBytes { Array($0) } == [0xE1, 0x07])
    if name == "compressed.npz" {
      #expect(arrays["zeros"]?.elements(as: Double.self) == [Double](repeating: 0, count: 100_000))
      #expect(arrays["noise"]?.count == 5000)
    }
  }

  @Test func readsLaterVersions() throws {
    #expect(try Npy.decode(Samples.file("version2.npy")).elements(as: Int.self) == [0, 1, 2])
  }

  @Test func writesWhatItReads() throws {
    let arrays = try arrays("arrays.npz").filter { $0.key != "bfloat16" && $0.key != "int4" }
    for (name, tensor) in arrays {
      let again = try Npy.decode(FileBytes(copying: Npy.encode(tensor)))
      #expect(again.dataType == tensor.dataType && again.shape == tensor.shape, "\(name)")
      #expect(again.withUnsafeBytes { Array($0) } == tensor.withUnsafeBytes { Array($0) }, "\(name)")
      #expect(again.strings == tensor.strings, "\(name)")
    }
    let path = TemporaryFolder.shared.path("again.npz")
    try Npz.write(arrays.map { (name: "a/" + $0.key, tensor: $0.value) }, to: path)
    let again = try Npz.decode(FileBytes.open(path: path))
    #expect(Set(again.map(\.name)) == Set(arrays.keys.map { "a/" + $0 }))
    #expect(again.first { $0.name == "a/big" }?.tensor.elements(as: Int32.self)?.last == 23)
  }

  @Test func writesTypesThatNumPyLacksAsWiderOnes() throws {
    func widened(_ tensor: Tensor) throws -> Tensor { try Npy.decode(FileBytes(copying: Npy.encode(tensor))) }
    func packed(_ type: DataType, _ text: String) throws -> Tensor {
      try TextTensors.text(FileBytes(copying: Array(text.utf8)), as: type)
    }
    #expect(try widened(packed(.int4, "1 -8 7")).elements(as: Int8.self) == [1, -8, 7])
    #expect(try widened(packed(.uint2, "1 3 0")).elements(as: UInt8.self) == [1, 3, 0])
    #expect(try widened(packed(.bfloat16, "1 -2.5")).elements(as: Float.self) == [1, -2.5])
    #expect(try widened(packed(.float8e4m3fn, "448 -0.5 1000")).elements(as: Float.self) == [448, -0.5, 448])
    #expect(try widened(packed(.float8e5m2, "57344 1.75 -3")).elements(as: Float.self) == [57344, 1.75, -3])
    #expect(try widened(packed(.float6e3m2, "28 0.0625 -3")).elements(as: Float.self) == [28, 0.0625, -3])
    #expect(try widened(packed(.float6e2m3, "7.5 0.125 -3")).elements(as: Float.self) == [7.5, 0.125, -3])
    #expect(try widened(packed(.float4e2m1, "6 0.5 -3 2.5")).elements(as: Float.self) == [6, 0.5, -3, 2])
  }

  private func npy(_ header: String, _ data: Int) throws -> FileBytes {
    let magic: [UInt8] =
      [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count & 255), UInt8(header.utf8.count >> 8)]
    return try FileBytes(copying: magic + Array(header.utf8) + [UInt8](repeating: 0, count: data))
  }

  @Test(arguments: [
    ("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", 8, "type other than object"),
    ("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", 8, "records"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", 8, "there are 8 bytes"),
    ("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }", 8, "extent was expected"),
    ("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (3,), }", 8, "True or False"),
    ("{'descr': '<f4', 'shape': (1000000000000, 1000000000000), }", 8, "no size of an array"),
    ("{'descr': '<U0', 'fortran_order': False, 'shape': (1099511627776,), }", 0, "strings of no characters"),
    ("{'descr': '<f4', 'fortran_order': False", 8, "cut off"), ("", 0, "cut off"),
    ("{'descr': '<f3', 'shape': (1,)}", 8, "'<f3' are not read"),
    ("{'descr': '<U99999999999999999999', 'shape': (1,)}", 8, "are not read"),
  ])
  func refusesBadArrays(_ header: String, _ data: Int, _ expected: String) {
    let message = message { _ = try Npy.decode(npy(header, data)) }
    #expect(message.contains(expected), "\(message)")
  }

  @Test func survivesEveryTruncationAndBitFlip() throws {
    for name in ["arrays.npz", "compressed.npz"] {
      let bytes = try Samples.file(name).withBytes { span in span.indices.map { span[$0] } }
      for length in stride(from: 0, to: bytes.count, by: 61) {
        _ = try? Npz.decode(FileBytes(copying: bytes[..<length]))
      }
      var damaged = 0
      for position in stride(from: 0, to: bytes.count, by: 53) {
        var broken = bytes
        broken[position] ^= 0x10
        if (try? Npz.decode(FileBytes(copying: broken))) == nil { damaged += 1 }
      }
      #expect(damaged > bytes.count / 53 / 2)
    }
  }

  @Test func boundsDecompression() {
    var limits = LoadLimits()
    limits.maximumDecodedBytes = 500_000
    #expect(
      message {
        _ = try Npz.decode(Samples.file("compressed.npz"), as: ["bfloat16": .bfloat16, "int4": .int4], limits: limits)
      }.contains("maximumDecodedBytes"))
    #expect(message { _ = try Npz.decode(FileBytes(copying: [1, 2, 3])) }.contains("no zip directory"))
  }
}
