// Arrays that are read slice by slice have the elements of those that are read whole.

import ApusContainers
import ApusTensor
import ApusTestSupport
import Glibc
import Testing

@Suite struct ArraySeriesTests {
  @Test(arguments: ["arrays.npz", "compressed.npz"])
  func slicesAreThoseOfTheWholeArray(_ name: String) throws {
    let declared: [String: DataType] = ["bfloat16": .bfloat16, "int4": .int4]
    let whole = try Npz.decode(Samples.file(name), as: declared)
    let series = try Npz.series(path: Samples.folder + "/" + name, as: declared, checks: true)
    #expect(series.map(\.name) == whole.map(\.name))
    for (array, (name, tensor)) in zip(series, whole) {
      #expect(array.dataType == tensor.dataType && array.shape == tensor.shape, "\(name)")
      try expectEqual(array.all(), tensor, name)
      guard tensor.rank > 0, !tensor.dataType.isPacked else { continue }
      let width = tensor.count / max(tensor.shape[0], 1)
      let last = tensor.shape[0]
      let bounds = Set([0, 1, last / 2, last - 1, last]).filter { (0...last).contains($0) }
      for start in bounds {
        for end in bounds where end >= start {
          let slice = try array.slice(start..<end)
          #expect(slice.shape == Shape([end - start] + tensor.shape.dims.dropFirst()), "\(name)")
          if let strings = tensor.strings {
            #expect(slice.strings == Array(strings[start * width..<end * width]), "\(name)")
          } else {
            let size = tensor.byteCount / max(tensor.shape[0], 1)
            #expect(bytes(slice) == Array(bytes(tensor)[start * size..<end * size]), "\(name)")
          }
        }
      }
    }
  }

  @Test func filesOfOneArray() throws {
    let tensor = Tensor((0..<60).map { Float($0) }, shape: [5, 3, 4])
    let path = TemporaryFolder.shared.path("series.npy")
    try Npy.write(tensor, to: path)
    let series = try Npy.series(path: path)
    for index in 0..<5 {
      #expect(try series.slice(index..<index + 1).elements(as: Float.self) == (0..<12).map { Float(index * 12 + $0) })
    }
    #expect(try series.slice(2..<2).shape == [0, 3, 4])
  }

  @Test func whatIsBrokenIsAnError() throws {
    let path = TemporaryFolder.shared.path("broken.npz")
    try Npz.write([("x", Tensor((0..<1000).map { Int32($0) }))], to: path)
    var content = try bytes(of: path)
    content[400] ^= 1
    try OutputFile.write(content, to: path)
    #expect(throws: LoadError.self) { try Npz.series(path: path, checks: true) }
    // Without checks only what the header says is looked at.
    #expect(try Npz.series(path: path, checks: false)[0].shape == [1000])
    for length in [0, 10, 22, 500, content.count - 30] {
      try OutputFile.write(Array(content.prefix(length)), to: path)
      #expect(throws: LoadError.self, "\(length)") { try Npz.series(path: path, checks: false) }
      #expect(throws: LoadError.self, "\(length)") { try Npy.series(path: path) }
    }
  }

  @Test func aFileThatBecomesShorterIsAnError() throws {
    let path = TemporaryFolder.shared.path("shorter.npy")
    try Npy.write(Tensor((0..<1000).map { Float($0) }, shape: [10, 100]), to: path)
    let series = try Npy.series(path: path)
    #expect(try series.slice(9..<10).count == 100)
    #expect(truncate(path, 1000) == 0)
    #expect(throws: LoadError.self) { try series.slice(9..<10) }
  }

  private func bytes(_ tensor: Tensor) -> [UInt8] { tensor.withUnsafeBytes { Array($0) } }

  private func bytes(of path: String) throws -> [UInt8] {
    try FileBytes.open(path: path).withBytes { span in span.indices.map { span[$0] } }
  }

  private func expectEqual(_ a: Tensor, _ b: Tensor, _ name: String) throws {
    #expect(a.strings == b.strings && bytes(a) == bytes(b), "\(name)")
  }
}
