// apus.MatMulNBits: MatMulNBits of constant weights that a file has as quantized integers before a matrix product. Made
// by passes, never read from a file. Versions: 1.
// https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits

import ApusGraph
import ApusTensor

/// Y = A · Wᵀ + bias. A [..., K]; B [N, K / block_size, block_size * bits / 8], the codes of W; scales [N, K /
/// block_size]; zero_points [N, bytes of as many codes], half the range if they are left out; bias [N]. K is a multiple
/// of block_size.
package struct NBitsGemm: EngineOperator {
  package static let id = OperatorID("MatMulNBits", domain: "apus")
  package static let zeroPoints = 3
  package static let bias = 5

  private let product = MatMulNBits()
  package let schema: OperatorSchema

  package init() {
    let known = product.schema
    schema = OperatorSchema(
      "MatMulNBits", domain: "apus", versions: [1], inputs: known.inputs, outputs: known.outputs,
      attributes: known.attributes, types: ["T1": .float32, "T2": [.uint8], "T3": [.uint8], "T4": .int32],
      multiplyAdds: matMulProducts(a: 0))
  }

  package func infer(_ context: inout InferenceContext) throws(OperatorError) { try product.infer(&context) }

  package func prepare(_ context: PrepareContext) throws(OperatorError) -> PreparedKernel {
    try product.prepare(context)
  }

  /// DequantizeLinear in the oldest form that can say it, and MatMul.
  package func lower(_ node: Node, into builder: GraphBuilder) throws(OperatorError) {
    func input(_ position: Int) -> ValueID? { position < node.inputs.count ? node.inputs[position] : nil }
    guard let a = input(0), let n = node.attributes.int("N"), let k = node.attributes.int("K"),
      let bits = node.attributes.int("bits"), let size = node.attributes.int("block_size"), size > 0, k % size == 0,
      let type = [2: DataType.uint2, 4: .uint4, 8: .uint8][bits], let codes = builder.constant(input(1)),
      let scales = builder.constant(input(2))?.elements(as: Float.self)
    else { throw .invalid("\(node.op) '\(node.name)' has no constant weights in whole blocks") }
    let zeroPoints = try NBitsParameters.zeroPoints(
      builder.constant(input(NBitsGemm.zeroPoints)), n, k / size, bits)
    let parameters = NBitsParameters(scales: scales, zeroPoints: zeroPoints, rows: n)
    let inputs = [
      builder.addConstant(Tensor(dataType: type, shape: [n, k], storage: codes.storage, byteOffset: codes.byteOffset)),
      builder.addConstant(Tensor(parameters.scales, shape: parameters.shape)),
      builder.addConstant(try parameters.zeroPoints(as: type)),
    ]
    var attributes: [(String, AttributeValue)] = []
    if parameters.shape.rank > 0 { attributes.append(("axis", .int(parameters.shape.rank - 1))) }
    if parameters.shape.rank > 1 { attributes.append(("block_size", .int(size))) }
    let rows = try builder.apply(OperatorID("DequantizeLinear"), name: "\(node.name)/W", inputs, attributes)
    let columns = try builder.apply(
      OperatorID("Transpose"), name: "\(node.name)/B", [rows], [("perm", .ints([1, 0]))])
    var operations = LoweredOperations(node, in: builder)
    operations.append("MatMul") { (a) throws(OperatorError) in [a, columns] }
    operations.appendSum(input(NBitsGemm.bias))
    try operations.finish(a)
  }
}

/// Scales and zero points of the rows of a matrix in as few numbers as say the same: one, one a row, or one a block.
private struct NBitsParameters {
  let scales: [Float]
  let zeroPoints: [UInt8]
  let shape: Shape

  init(scales: [Float], zeroPoints: [UInt8], rows: Int) {
    let blocks = scales.count / max(rows, 1)
    func isAlike(_ count: Int) -> Bool {
      scales.indices.allSatisfy {
        let first = $0 / count * count
        return scales[$0].bitPattern == scales[first].bitPattern && zeroPoints[$0] == zeroPoints[first]
      }
    }
    if isAlike(max(scales.count, 1)) {
      (self.scales, self.zeroPoints, shape) = (Array(scales.prefix(1)), Array(zeroPoints.prefix(1)), [])
    } else if isAlike(max(blocks, 1)) {
      let firsts = stride(from: 0, to: scales.count, by: blocks)
      (self.scales, self.zeroPoints, shape) = (firsts.map { scales[$0] }, firsts.map { zeroPoints[$0] }, [rows])
    } else {
      (self.scales, self.zeroPoints, shape) = (scales, zeroPoints, [rows, blocks])
    }
  }

  func zeroPoints(as type: DataType) throws(OperatorError) -> Tensor {
    let tensor = try Allowance.unlimited.allocate(type, shape)
    let target = tensor.storage.base
    zeroPoints.withUnsafeBufferPointer { codes in
      guard let codes = codes.baseAddress else { return }
      if type == .uint8 {
        target.copyMemory(from: codes, byteCount: zeroPoints.count)
      } else {
        PackedElements.pack(codes, zeroPoints.count, bits: type.bits, target, at: 0)
      }
    }
    return tensor
  }

  /// The codes of all zero points, one a byte.
  static func zeroPoints(_ tensor: Tensor?, _ rows: Int, _ blocks: Int, _ bits: Int) throws(OperatorError) -> [UInt8] {
    guard let tensor else { return [UInt8](repeating: 1 << UInt8(bits - 1), count: rows * blocks) }
    let rowBytes = (blocks * bits + 7) / 8
    guard tensor.dataType == .uint8, tensor.count == rows * rowBytes else {
      throw .mismatch("zero_points is \(tensor.shape); expected \(rows) rows of \(rowBytes) bytes")
    }
    return tensor.withUnsafeBytes { bytes in
      var codes = [UInt8](repeating: 0, count: rows * blocks)
      codes.withUnsafeMutableBufferPointer { target in
        guard let codes = target.baseAddress, let source = bytes.baseAddress else { return }
        for row in 0..<rows {
          let line = source + row * rowBytes
          if bits == 8 {
            UnsafeMutableRawPointer(codes + row * blocks).copyMemory(from: line, byteCount: blocks)
          } else {
            PackedElements.unpack(line, bits: bits, from: 0, codes + row * blocks, blocks)
          }
        }
      }
      return codes
    }
  }
}
