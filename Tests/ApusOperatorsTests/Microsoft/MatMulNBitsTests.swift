// MatMulNBits with rows of 8 bits, which accuracy_level 4 allows: near the product in float32, and for each row the
// same whatever stands beside it.

import ApusGraph
import ApusTensor
import ApusTestSupport
import Testing

@Suite struct MatMulNBitsTests {
  private let n = 50
  private let k = 72
  private let block = 32

  private func product(_ rows: [[Float]], level: Int, bits: Int = 4) throws -> [[Float]] {
    var state = UInt8(7)
    let codes = (0..<n * 3 * block * bits / 8).map { _ -> UInt8 in
      state = state &* 77 &+ 13
      return state ^ (state >> 3)
    }
    var run = OperatorRun(
      "MatMulNBits", domain: "com.microsoft",
      attributes: [
        ("K", .int(k)), ("N", .int(n)), ("bits", .int(bits)), ("block_size", .int(block)),
        ("accuracy_level", .int(level)),
      ])
    run.constantInputs = [1, 2]
    let a = Tensor(rows.flatMap { $0 }, shape: [rows.count, k])
    let scales = Tensor((0..<n * 3).map { 0.01 + 0.001 * Float($0 % 7) }, shape: [n, 3])
    let y = try run(a, Tensor(codes, shape: [n, 3, block * bits / 8]), scales)[0].elements(as: Float.self) ?? []
    return (0..<rows.count).map { Array(y[$0 * n..<($0 + 1) * n]) }
  }

  private func rows(_ count: Int) -> [[Float]] {
    (0..<count).map { sampleTensor([k], seed: $0 + 1).elements(as: Float.self) ?? [] }
  }

  @Test(arguments: [2, 4, 8]) func rowsOfBytesAreNear(_ bits: Int) throws {
    let rows = rows(11)
    let exact = try product(rows, level: 0, bits: bits)
    let near = try product(rows, level: 4, bits: bits)
    // Half a step of each number, times the largest weight.
    let bound = 0.5 / 127 * Float(k) * 0.016 * Float(1 << (bits - 1))
    for (x, y) in zip(exact.joined(), near.joined()) { #expect(abs(x - y) <= bound) }
  }

  @Test func rowsDoNotDependOnOthers() throws {
    var rows = rows(11)
    rows[3][40] = .infinity
    rows[4][0] = .nan
    rows[5][71] = 0x1p110
    rows[6] = [Float](repeating: 0, count: k)
    let all = try product(rows, level: 4)
    for (row, values) in rows.enumerated() {
      let alone = try product([values], level: 4)[0]
      #expect(zip(all[row], alone).allSatisfy { $0 == $1 || ($0.isNaN && $1.isNaN) }, "row \(row)")
    }
    let exact = try product(rows, level: 0)
    for row in 3...6 {
      #expect(zip(all[row], exact[row]).allSatisfy { $0 == $1 || ($0.isNaN && $1.isNaN) }, "row \(row)")
    }
  }
}
