// Steps that run by themselves: the memory that they take.

import ApusGraph
import ApusTensor
import Testing

@Suite struct KernelRunnerTests {
  /// Kernels that move elements read them at any address; others are given a copy, which counts.
  @Test func operandsAtOddAddresses() throws {
    let storage = try TensorStorage(byteCount: 80)
    for index in 0..<80 { storage.base.storeBytes(of: UInt8(index), toByteOffset: index, as: UInt8.self) }
    let tensor = Tensor(dataType: .float32, shape: [16], storage: storage, byteOffset: 3)
    let step = Step(phases: [1], scratchBytes: 0) { run, _, _ in
      run.outputBytes().copyMemory(from: run.inputBytes(0), byteCount: 64)
    }
    func run(limit: Int, movesData: Bool) throws(OperatorError) -> Tensor? {
      let account = MemoryAccount(limit: limit, name: "limit")
      return try KernelRunner.run(
        step, inputs: [tensor], outputTypes: [TensorType(.float32, [16])],
        allowance: .run(memory: account, cancellation: nil), movesData: movesData)[0]
    }
    for (limit, movesData) in [(64, true), (128, false)] {
      let copy = try #require(try run(limit: limit, movesData: movesData))
      #expect(copy.elements(as: UInt8.self, reinterpreting: true) == (3..<67).map { UInt8($0) })
    }
    #expect(throws: OperatorError.self) { try run(limit: 127, movesData: false) }
    #expect(throws: OperatorError.self) { try run(limit: 63, movesData: true) }
  }
}
