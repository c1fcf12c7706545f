// Losses of a student against the formulas, and teachers' outputs in a file that grows.

import ApusCompression
import ApusFormats
import ApusTensor
import ApusTestSupport
import Foundation
import Testing

@Suite struct OutputLossTests {
  @Test func formulas() throws {
    let (a, b) = (sampleTensor([3, 4], seed: 1), sampleTensor([3, 4], seed: 2))
    var loss = OutputLoss(name: "y", temperature: 2)
    for row in 0..<3 {
      let (x, y) = (
        a.elements(as: Float.self)![row * 4..<row * 4 + 4], b.elements(as: Float.self)![row * 4..<row * 4 + 4]
      )
      try loss.add(teacher: Tensor(Array(x), shape: [1, 4]), student: Tensor(Array(y), shape: [1, 4]))
    }
    let (x, y) = (a.elements(as: Float.self)!.map { Double($0) }, b.elements(as: Float.self)!.map { Double($0) })
    func softmax(_ row: ArraySlice<Double>) -> [Double] {
      let terms = row.map { exp($0 / 2) }
      return terms.map { $0 / terms.reduce(0, +) }
    }
    var (divergence, agreements, cosine) = (0.0, 0, 0.0)
    for row in 0..<3 {
      let (p, q) = (softmax(x[row * 4..<row * 4 + 4]), softmax(y[row * 4..<row * 4 + 4]))
      divergence += zip(p, q).reduce(0) { $0 + $1.0 * log($1.0 / $1.1) }
      agreements += p.firstIndex(of: p.max()!) == q.firstIndex(of: q.max()!) ? 1 : 0
      let (u, v) = (x[row * 4..<row * 4 + 4], y[row * 4..<row * 4 + 4])
      let dot = zip(u, v).reduce(0) { $0 + $1.0 * $1.1 }
      cosine += dot / (u.reduce(0) { $0 + $1 * $1 } * v.reduce(0) { $0 + $1 * $1 }).squareRoot()
    }
    let report = loss.report
    #expect(abs(report.divergence! - divergence / 3 * 4) < 1e-12)
    #expect(abs(report.cosine - cosine / 3) < 1e-12 && report.argmaxAgreement == Double(agreements) / 3)
    let errors: [Double] = zip(x, y).map { abs($0 - $1) }
    let squares: Double = errors.reduce(0) { $0 + $1 * $1 }
    #expect(abs(report.meanSquaredError - squares / 12) < 1e-12)
    #expect(report.maximumError == errors.max() && report.samples == 3)
  }

  @Test func alikeAndUnlike() throws {
    var loss = OutputLoss(name: "y")
    try loss.add(teacher: sampleTensor([2, 5], seed: 3), student: sampleTensor([2, 5], seed: 3))
    #expect(loss.report.divergence == 0 && loss.report.argmaxAgreement == 1 && abs(loss.report.cosine - 1) < 1e-12)
    #expect(throws: CompressionError.self) {
      try loss.add(teacher: sampleTensor([2, 5], seed: 3), student: sampleTensor([5, 2], seed: 3))
    }
    var single = OutputLoss(name: "y")
    try single.add(
      teacher: Tensor([1, 2] as [Float], shape: [2, 1]), student: Tensor([1, 1] as [Float], shape: [2, 1]))
    #expect(single.report.divergence == nil && single.report.argmaxAgreement == nil)
  }

  @Test func archivesThatGrow() throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "grow-\(UUID().uuidString).npz").path
    defer { try? FileManager.default.removeItem(atPath: path) }
    var stream = try NpzStream(
      [
        .init(name: "a", dataType: .float32, shape: [6, 3]), .init(name: "b", dataType: .int64, shape: [2]),
        .init(name: "c", dataType: .bfloat16, shape: [2, 2]), .init(name: "none", dataType: .bool, shape: [0, 4]),
      ], to: path)
    for step in 0..<2 {
      try stream.append(sampleTensor([3, 3], seed: step), to: 0)
      try stream.append(Tensor(scalar: Int64(step + 5)), to: 1)
      try stream.append(Tensor([BFloat16(1.5), BFloat16(Float(step))], shape: [1, 2]), to: 2)
    }
    #expect(!FileManager.default.fileExists(atPath: path))
    try stream.commit()
    let arrays = try Npz.decode(FileBytes.open(path: path))
    #expect(arrays.map(\.name) == ["a", "b", "c", "none"])
    let rows = [0, 1].flatMap { sampleTensor([3, 3], seed: $0).elements(as: Float.self)! }
    #expect(arrays[0].tensor.shape == [6, 3] && arrays[0].tensor.elements(as: Float.self) == rows)
    #expect(arrays[1].tensor.elements(as: Int64.self) == [5, 6])
    #expect(arrays[2].tensor.elements(as: Float.self) == [1.5, 0, 1.5, 1] && arrays[3].tensor.shape == [0, 4])
  }

  @Test func unfinishedArchivesAreNoFiles() throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "part-\(UUID().uuidString).npz").path
    var stream = try NpzStream([.init(name: "a", dataType: .float32, shape: [2])], to: path)
    try stream.append(Tensor([1 as Float]), to: 0)
    #expect(throws: LoadError.self) { try stream.append(Tensor([1, 2] as [Float]), to: 0) }
    #expect(throws: LoadError.self) { try stream.append(Tensor([1 as Double]), to: 0) }
    #expect(throws: LoadError.self) { try stream.commit() }
    #expect(!FileManager.default.fileExists(atPath: path))
    #expect(throws: LoadError.self) { _ = try NpzStream([.init(name: "s", dataType: .string, shape: [1])], to: path) }
  }
}
