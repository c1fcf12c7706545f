// What a run through the C interface takes from the heap, counted block by block.

import ApusAllocations
import ApusC
import CApus
import Foundation
import Testing

@Suite(.enabled(if: apus_counts_allocations(), "the heap of this C library is not watched"))
struct AllocationTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "TestModels")

  /// The array of the outputs and the account that they are charged to; of the one output, its storage, its bytes, the
  /// object that C holds, and its shape in C's form; the closure that goes through the guard against forks; and the
  /// presence of the run among those of its engine.
  private static let expected = 2 + 4 + 1 + 1

  @Test func aRunByPositionsTakesItsOutputs() throws {
    let path = Self.folder.appending(path: "digits.onnx").path(percentEncoded: false)
    let options = apus_options_create()
    apus_options_set_threads(options, 1)
    var model: OpaquePointer?
    #expect(apus_model_load_file(path, options, &model) == nil)
    apus_options_release(options)
    defer { apus_model_release(model) }
    let shape: [Int64] = [1, 1, 8, 8]
    let pixels = [Float](repeating: 1, count: 64)
    var input: OpaquePointer?
    let error = pixels.withUnsafeBytes { bytes in
      apus_tensor_create(1, shape, shape.count, bytes.baseAddress, bytes.count, &input)
    }
    #expect(error == nil)
    defer { apus_value_release(input) }
    var inputs = [input]
    var output: OpaquePointer?
    for round in 0..<5 {
      let before = apus_allocations()
      let error = apus_model_run_in_order(model, &inputs, 1, nil, 1, nil, &output)
      let taken = Int(apus_allocations() - before)
      #expect(error == nil)
      if round == 4 { #expect(taken == Self.expected) }
      apus_value_release(output)
    }
  }
}
