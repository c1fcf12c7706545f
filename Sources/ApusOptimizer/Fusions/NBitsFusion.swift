// Products with weights that are constant integers of few bits, standard operators' way: DequantizeLinear before MatMul
// or Gemm. https://onnx.ai/onnx/operators/onnx__DequantizeLinear.html

import ApusGraph
import ApusOperators
import ApusTensor

/// A · DequantizeLinear(constant W), or its transpose, plus a bias → apus.MatMulNBits, which keeps the few bits in
/// memory. W has a scale for all of it, for each column, or for each block of a column.
struct NBitsFusion: Fusion {
  let name = "n-bits"
  let roots: Set<OperatorID> = [OperatorID("MatMul"), OperatorID("Gemm")]

  /// Smaller matrices are as fast in float32, whose product takes more into its epilogue.
  private static let leastElements = 1 << 16

  func match(root: NodeID, in graph: borrowing GraphEditor) -> GraphPatch? {
    let node = graph[root]
    guard let output = node.outputs[0], node.inputs.count >= 2, let a = node.inputs[0], graph.rank(a) ?? 0 >= 1,
      graph.dataType(a) == .float32, graph.producer(of: a, is: "DequantizeLinear") == nil,
      let source = NBitsSource(node.inputs[1], isTransposed: transposesB(node), in: graph),
      source.n * source.k >= NBitsFusion.leastElements, let bias = bias(of: node, columns: source.n, in: graph),
      let weights = source.weights()
    else { return nil }
    var patch = QuantizedPatch()
    var inputs: [ValueID?] = [a, patch.add(weights.codes), patch.add(weights.scales)]
    if let zeroPoints = weights.zeroPoints { inputs.append(patch.add(zeroPoints)) }
    if let bias {
      while inputs.count < NBitsGemm.bias { inputs.append(nil) }
      inputs.append(bias)
    }
    let product = Node(
      NBitsGemm.id, name: node.name, inputs: inputs, outputs: [output],
      attributes: Attributes([
        ("K", .int(source.k)), ("N", .int(source.n)), ("bits", .int(source.bits)),
        ("block_size", .int(source.blockSize)),
      ]))
    return GraphPatch(removed: [root], added: [product], constants: patch.constants)
  }

  private func transposesB(_ node: Node) -> Bool { node.op.name == "Gemm" && node.attributes.int("transB") ?? 0 != 0 }

  /// The third input of a Gemm that adds one number to each column; `.some(nil)` if nothing is added.
  private func bias(of node: Node, columns: Int, in graph: borrowing GraphEditor) -> ValueID?? {
    if node.op.name == "MatMul" { return .some(nil) }
    guard node.attributes.int("transA") ?? 0 == 0, node.attributes.float("alpha") ?? 1 == 1,
      node.attributes.float("beta") ?? 1 == 1
    else { return nil }
    guard node.inputs.count > 2, let bias = node.inputs[2] else { return .some(nil) }
    return graph.shape(bias)?.map(\.known) == [columns] ? .some(bias) : nil
  }
}

/// A DequantizeLinear of a constant matrix as the right factor of a product of depth k with n columns.
private struct NBitsSource {
  let n: Int
  let k: Int
  let bits: Int
  /// Of the result: that of the file, or as large as the depth allows if scales are those of whole columns.
  let blockSize: Int

  private let codes: Tensor
  private let scales: Tensor
  private let zeroPoints: Tensor?
  /// The matrix is [n, k].
  private let isTransposed: Bool
  private let isSigned: Bool
  /// How far the scale of the next column is from that of one, and that of the next block.
  private let columnStride: Int
  private let blockStride: Int

  /// nil if `value` is something else, or quantized in a way that has no such form.
  init?(_ value: ValueID?, isTransposed: Bool, in graph: borrowing GraphEditor) {
    var (value, isTransposed) = (value, isTransposed)
    while let node = value.flatMap({ graph.producer(of: $0) }).map({ graph[$0] }) {
      let isTurn = node.op == OperatorID("Transpose") && node.attributes.ints("perm") ?? [1, 0] == [1, 0]
      guard isTurn || graph.unchangedInput(of: node) != nil else { break }
      if isTurn { isTransposed.toggle() }
      value = node.inputs[0]
    }
    guard let (_, node) = graph.producer(of: value, is: "DequantizeLinear"), graph.dataType(value) == .float32,
      let codes = graph.constant(node.inputs[0]), codes.rank == 2, let scales = graph.constant(node.inputs[1]),
      scales.dataType == .float32, [.int2, .uint2, .int4, .uint4, .int8, .uint8].contains(codes.dataType)
    else { return nil }
    let zeroPoints = node.inputs.count > 2 ? graph.constant(node.inputs[2]) : nil
    if node.inputs.count > 2, node.inputs[2] != nil, zeroPoints?.dataType != codes.dataType { return nil }
    let axis = node.attributes.int("axis") ?? 1
    let (size, along) = (node.attributes.int("block_size") ?? 0, axis < 0 ? axis + 2 : axis)
    let depthAxis = isTransposed ? 1 : 0
    (n, k) = (codes.shape[1 - depthAxis], codes.shape[depthAxis])
    guard n > 0, k > 0, zeroPoints == nil || zeroPoints?.shape == scales.shape else { return nil }
    if scales.count == 1, scales.rank <= 1 {
      (blockSize, columnStride, blockStride) = (k & -k, 0, 0)
    } else if size == 0, scales.shape == [n], along == 1 - depthAxis {
      (blockSize, columnStride, blockStride) = (k & -k, 1, 0)
    } else if size > 0, along == depthAxis, k % size == 0, scales.rank == 2, scales.shape[depthAxis] == k / size,
      scales.shape[1 - depthAxis] == n
    {
      blockSize = size
      (columnStride, blockStride) = isTransposed ? (k / size, 1) : (1, n)
    } else {
      return nil
    }
    guard blockSize >= 16, blockSize & (blockSize - 1) == 0 else { return nil }
    (self.codes, self.scales, self.zeroPoints, self.isTransposed) = (codes, scales, zeroPoints, isTransposed)
    bits = codes.dataType.bits
    isSigned = !codes.dataType.isUnsignedInteger
  }

  private var blocks: Int { k / blockSize }
  /// What turns a code into one of the unsigned type, half the range higher if the type is signed.
  private var turn: UInt8 { isSigned ? 1 << UInt8(bits - 1) : 0 }

  /// The operands as MatMulNBits has them; nil if there is no memory for them.
  func weights() -> (codes: Tensor, scales: Tensor, zeroPoints: Tensor?)? {
    guard let codes = turnedCodes(), let numbers = scales.elements(as: Float.self) else { return nil }
    var ordered: [Float] = []
    ordered.reserveCapacity(n * blocks)
    for column in 0..<n {
      for block in 0..<blocks { ordered.append(numbers[column * columnStride + block * blockStride]) }
    }
    return (codes, Tensor(ordered, shape: [n, blocks]), turnedZeroPoints())
  }

  /// nil where all are half the range.
  private func turnedZeroPoints() -> Tensor? {
    let given = zeroPoints.map { unpacked($0) } ?? [UInt8](repeating: 0, count: scales.count)
    let middle = UInt8(1) << UInt8(bits - 1)
    if given.allSatisfy({ $0 ^ turn == middle }) { return nil }
    let rowBytes = (blocks * bits + 7) / 8
    var rows = [UInt8](repeating: 0, count: n * rowBytes)
    for column in 0..<n {
      for block in 0..<blocks {
        let code = given[column * columnStride + block * blockStride] ^ turn
        rows[column * rowBytes + block * bits / 8] |= code << UInt8(block * bits % 8)
      }
    }
    return Tensor(rows, shape: [n, rowBytes])
  }

  private func turnedCodes() -> Tensor? {
    let source = unpacked(codes)
    let (column, row) = isTransposed ? (k, 1) : (1, n)
    let (codesInByte, rowBytes) = (8 / bits, k * bits / 8)
    guard let result = try? Tensor(uninitialized: .uint8, shape: [n, blocks, blockSize * bits / 8]) else { return nil }
    let target = result.storage.base.assumingMemoryBound(to: UInt8.self)
    source.withUnsafeBufferPointer { source in
      for n in 0..<n {
        for byte in 0..<rowBytes {
          var (joined, at) = (UInt8(0), n &* column &+ byte &* codesInByte &* row)
          for place in 0..<codesInByte {
            joined |= (source[at] ^ turn) << UInt8(truncatingIfNeeded: place &* bits)
            at &+= row
          }
          target[n &* rowBytes &+ byte] = joined
        }
      }
    }
    return result
  }

  /// The codes of a tensor, one a byte.
  private func unpacked(_ tensor: Tensor) -> [UInt8] {
    tensor.withUnsafeBytes { bytes in
      [UInt8](unsafeUninitializedCapacity: tensor.count) { buffer, count in
        count = tensor.count
        guard let target = buffer.baseAddress, let source = bytes.baseAddress else { return }
        if bits == 8 {
          UnsafeMutableRawPointer(target).copyMemory(from: source, byteCount: count)
        } else {
          PackedElements.unpack(source, bits: bits, from: 0, target, count)
        }
      }
    }
  }
}
