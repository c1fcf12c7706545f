// apus.ByteMap: a function of single bytes, given by all its values. Made by passes, never read from a file.
// Versions: 1.

import ApusGraph
import ApusTensor
import CApusKernels

/// y = table[x], element by element; a signed byte counts from the end of the table where it is negative, as in Gather.
package struct ByteMap: EngineOperator {
  package static let id = OperatorID("ByteMap", domain: "apus")
  /// Elements of a table.
  package static let size = 256

  package let schema = OperatorSchema(
    "ByteMap", domain: "apus", versions: [1], inputs: [.required("x", "T1"), .required("table", "T2")],
    outputs: [.required("y", "T2")], types: ["T1": .bytes, "T2": .bytes], layout: .elementwise)

  package init() {}

  package func infer(_ context: inout InferenceContext) throws(OperatorError) {
    if let table = context.shape(1), table.count != 1 || table[0].isSurelyDifferent(from: Dim(ByteMap.size)) {
      throw .mismatch("table has the shape \(table); expected [\(ByteMap.size)]")
    }
    context.set(0, context.type(1), context.shape(0))
  }

  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    guard node.inputs.count == 2, let x = node.inputs[0] else { throw .invalid("\(node.op) lacks inputs") }
    var operations = LoweredOperations(node, in: builder)
    operations.append("Cast", [("to", .int(Int(DataType.int32.rawValue)))]) { (x) throws(OperatorError) in [x] }
    operations.append("Gather") { (index) throws(OperatorError) in [node.inputs[1], index] }
    try operations.finish(x)
  }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    let table = context.constant(1)?.elements(as: UInt8.self, reinterpreting: true) ?? []
    let refusal = table.count == ByteMap.size ? nil : "the table comes with the run"
    return try ElementCandidate.choose(
      .byteMap, type: try context.type(0),
      [
        .plain {
          .planned { (plan) throws(OperatorError) in ByteMap.plainStep(count: plan.outputShape(0).elementCount) }
        },
        .vectors("words", types: [.int8, .uint8], refusal: refusal) {
          let map = apus_kernels().pointee.map_bytes
          let loop: UnaryLoop = { x, y, count in
            table.withUnsafeBufferPointer { table in
              guard let table = table.baseAddress else { return }
              map(count, x.assumingMemoryBound(to: UInt8.self), y.assumingMemoryBound(to: UInt8.self), table)
            }
          }
          return Elementwise.unary(loop, cost: .light, name: "map_bytes")
        },
      ])
  }

  private static func plainStep(count: Int) -> Step {
    let partition = Partition(count, of: .light)
    return Step.parallel(parts: partition.parts) { run, part in
      let (x, table) = (run.input(0, as: UInt8.self), run.input(1, as: UInt8.self))
      let y = run.output(0, as: UInt8.self)
      for index in partition.range(part) { y[index] = table[Int(x[index])] }
    }.named("ByteMap")
  }
}
