// Safetensors files: what the safetensors package writes, what is written here, and broken headers.

import ApusContainers
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct SafeTensorsTests {
  @Test(arguments: [false, true])
  func readsWhatThePackageWrites(_ inParts: Bool) throws {
    let file = try SafeTensors(Samples.file("weights.safetensors", reading: inParts ? .ranges : .everything))
    let tensors = Dictionary(uniqueKeysWithValues: try file.tensors().map { ($0.name, $0.tensor) })
    #expect(tensors.count == 7 && file.entries.count == 7)
    #expect(
      tensors["a.weight"]?.elements(as: Float.self) == [0, 1, 2, 3, 4, 5] && tensors["a.weight"]?.shape == [2, 3])
    #expect(tensors["a.bias"]?.elements(as: BFloat16.self)?.map(\.float) == [1, -2, 0.5])
    #expect(tensors["codes"]?.elements(as: Int.self) == [-1, 1 << 40])
    #expect(tensors["small"]?.dataType == .float8e4m3fn && tensors["small"]?.doubles == [1, -0.5, 448, 2])
    #expect(tensors["half"]?.shape == [] && tensors["half"]?.elements(as: Float16.self) == [2.5])
    #expect(tensors["flags"]?.elements(as: Bool.self) == [true, false, true])
    #expect(tensors["none"]?.shape == [0, 4])
    let metadata = Dictionary(uniqueKeysWithValues: file.metadata.map { ($0.key, $0.value) })
    #expect(metadata == ["format": "pt", "said": "雨燕"])
  }

  @Test func isReadBack() throws {
    var random = TestRandom(seed: 5)
    var tensors: [(name: String, tensor: Tensor)] = []
    for type in DataType.allCases where ![.string, .complex128, .int4, .uint4, .int2, .uint2].contains(type) {
      for shape in [[], [4], [2, 0, 3], [2, 4, 3]] as [Shape] where shape.rank > 0 || type.bits % 8 == 0 {
        let tensor = try Tensor.building(type, shape) { (output) throws(LoadError) in
          while !output.isFull { output.append(UInt8(random.below(type == .bool ? 2 : 256))) }
        }
        tensors.append(("\(type)/\"\(shape)\" 雨\u{1}", tensor))
      }
    }
    let path = TemporaryFolder.shared.path("written.safetensors")
    try SafeTensors.write(tensors, metadata: [("a", "b\n\"c\""), ("", "")], to: path)
    let file = try SafeTensors(FileBytes.open(path: path, reading: .mapped))
    #expect(file.entries.count == tensors.count && file.metadata.map(\.key) == ["a", ""])
    for (name, tensor) in tensors {
      let entry = try #require(file[name])
      let again = try file.tensor(entry)
      #expect(
        again.dataType == tensor.dataType && again.shape == tensor.shape && again.bytes == tensor.bytes, "\(name)")
      #expect(entry.range.lowerBound % max(tensor.dataType.byteWidth, 1) == 0, "\(name)")
    }
    for type in [DataType.int4, .complex128] {
      let refused = Tensor(zeros: type, shape: [2])
      #expect(message { try SafeTensors.write([("x", refused)], to: path) }.contains("tensor 'x': safetensors has no"))
    }
    let twice = [("x", Tensor([Float(1)])), ("x", Tensor([Float(1)]))]
    #expect(message { try SafeTensors.write(twice, to: path) }.contains("two tensors have the name 'x'"))
    #expect(message { try SafeTensors.write([("__metadata__", twice[0].1)], to: path) }.contains("two tensors"))
    // The file that was there is still whole.
    #expect(try SafeTensors(FileBytes.open(path: path)).entries.count == tensors.count)
  }

  private func read(_ header: String, data: Int = 8, length: Int? = nil) -> String {
    let text = Array(header.utf8)
    let bytes = HandMadeZip.little(length ?? text.count, 8) + text + [UInt8](repeating: 2, count: data)
    return message { _ = try SafeTensors(FileBytes(copying: bytes)).tensors() }
  }

  @Test(arguments: [
    (#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, "no error"),
    (#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}   "#, "no error"),
    (#" {"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#, "does not begin with"),
    (#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} ,"#, "more after the end"),
    (#"{"x":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}"#, "'shape' stands twice"),
    (
      #"{"x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"x":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
      "'x' stands twice"
    ),
    (
      #"{"x":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"y":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
      "tensor 'y': the tensor shares bytes"
    ),
    (
      #"{"x":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"y":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}}"#,
      "follows bytes that belong to none"
    ),
    (#"{"x":{"dtype":"U8","shape":[7],"data_offsets":[0,7]}}"#, "1 bytes follow the last tensor"),
    (#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,7]}}"#, "8 bytes for F32"),
    (#"{"x":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#, "among 8"),
    (#"{"x":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}"#, "whole numbers"),
    (#"{"x":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}"#, "whole numbers"),
    (#"{"x":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#, "no size of a tensor"),
    (#"{"x":{"dtype":"F4","shape":[3],"data_offsets":[0,8]}}"#, "no size of a tensor"),
    (#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#, "offsets are 8 and 0"),
    (#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8,9]}}"#, "not all are there"),
    (#"{"x":{"dtype":"F32","shape":[2]}}"#, "not all are there"),
    (#"{"x":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}}"#, "'F31' are not read"),
    (#"{"x":{"dtype":"BOOL","shape":[8],"data_offsets":[0,8]}}"#, "a BOOL was expected"),
    (#"{"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8],"more":1}}"#, "more with a number"),
    (#"{"__metadata__":{"a":1},"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, "must be a string"),
    (#"{"__metadata__":[],"x":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, "must be an object"),
    (#"{"x":[]}"#, "an object was expected"), ("{}", "8 bytes follow"), ("[]", "does not begin with"),
    (#"{"x":"#, "a value was expected"),
  ])
  func readsHeaders(_ header: String, _ expected: String) {
    let message = read(header)
    #expect(message.contains(expected), "\(message)")
  }

  @Test func boundsTheHeader() {
    #expect(read("{}", data: 0) == "no error")
    #expect(read("{}", length: 100_000_001).contains("at most 100000000"))
    #expect(read("{}", length: 1000).contains("cut off"))
    #expect(read("{}", length: -1).contains("at most 100000000"))
    #expect(message { _ = try SafeTensors(FileBytes(copying: [1, 2])) }.contains("there are 2 bytes"))
  }

  @Test func survivesEveryTruncationAndBitFlip() throws {
    let bytes = try Samples.bytes("weights.safetensors")
    for length in bytes.indices {
      #expect(throws: LoadError.self) { try SafeTensors(FileBytes(copying: bytes[..<length])) }
    }
    for position in bytes.indices {
      for bit in 0..<8 {
        var broken = bytes
        broken[position] ^= 1 << UInt8(bit)
        _ = try? SafeTensors(FileBytes(copying: broken)).tensors()
      }
    }
  }
}
